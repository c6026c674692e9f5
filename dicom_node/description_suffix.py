"""Suffix of a derived Series Description: the site's template, filled in for one series.

Both the settings, which check it when they are read, and the derivation, which fills it in, need
this module, so it lies below both.
"""

from __future__ import annotations

import re
from typing import Final

MAX_TEMPLATE_CHARACTERS: Final = 32
"""Limit of the template as written. Filled in it has at most 51, which leaves the source 13 of the
64 characters of a Series Description (VR LO, PS3.5 6.2)."""

MAX_MODEL_CHARACTERS: Final = 24
"""Limit of a model's name in a description; longer ones are cut."""

PLACEHOLDERS: Final = ("model", "strength")

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_NOT_PLAIN: Final = re.compile(r"[^ -\[\]-~]")
"""Characters outside the default repertoire of a single-valued text: non-ASCII and backslash."""


def check_suffix(template: str) -> str:
    """Check that a template can end a Series Description, whatever it is filled with.

    Returns:
        The template.

    Raises:
        ValueError: It cannot; the message is a clause with reason and remedy.
    """
    if _NOT_PLAIN.search(template) or len(template) > MAX_TEMPLATE_CHARACTERS:
        raise ValueError(
            f"a Series Description cannot end like this, use at most {MAX_TEMPLATE_CHARACTERS}"
            " plain letters, digits, signs and no backslash"
        )
    found = _PLACEHOLDER.findall(template)
    if not set(found) <= set(PLACEHOLDERS):
        raise ValueError("only {model} and {strength} are allowed between braces")
    if len(set(found)) < len(found):
        raise ValueError("{model} or {strength} occurs twice, keep one of them")
    return template


def fill_suffix(template: str, *, model: str, strength: float) -> str:
    """Fill the name of the model and the strength (``1``, ``0.5``) into a template.

    Example:
        >>> fill_suffix(" {model} {strength}", model="man", strength=0.5)
        ' man 0.5'
    """
    words = {
        "model": _NOT_PLAIN.sub("?", model)[:MAX_MODEL_CHARACTERS],
        "strength": f"{strength:g}",
    }
    return _PLACEHOLDER.sub(lambda found: words[found[1]], template)
