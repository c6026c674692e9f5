"""The end of a derived Series Description: a template of the site, filled for one work.

Both the settings, which check it when they are read, and deriving, which fills it, need this; so it
stands below both.
"""

from __future__ import annotations

import re
from typing import Final

MAX_TEMPLATE_CHARACTERS: Final = 32
"""Of the template as written. Filled it has at most 51, so that 13 of the 64 characters of a Series
Description (VR LO, PS3.5 6.2) are the source's."""

MAX_MODEL_CHARACTERS: Final = 24
"""Of a model's name in a description; longer ones are cut."""

PLACEHOLDERS: Final = ("model", "strength")

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_NOT_PLAIN: Final = re.compile(r"[^ -\[\]-~]")
"""What cannot stand in every character set of a text with one value: all but ASCII, backslash."""


def check_suffix(template: str) -> str:
    """Make sure that a template can end a Series Description, whatever it is filled with.

    Returns:
        The template.

    Raises:
        ValueError: It cannot; a phrase that says why and what to do.
    """
    if _NOT_PLAIN.search(template) or len(template) > MAX_TEMPLATE_CHARACTERS:
        raise ValueError(
            f"a Series Description cannot end so, use at most {MAX_TEMPLATE_CHARACTERS} plain"
            " letters, digits, signs and no backslash"
        )
    found = _PLACEHOLDER.findall(template)
    if not set(found) <= set(PLACEHOLDERS):
        raise ValueError("between braces it may say {model} and {strength}, nothing else")
    if len(set(found)) < len(found):
        raise ValueError("{model} or {strength} stands in it twice, keep one of them")
    return template


def fill_suffix(template: str, *, model: str, strength: float) -> str:
    """The template with the name of the model and the strength (``1``, ``0.5``) in their places.

    Example:
        >>> fill_suffix(" {model} {strength}", model="man", strength=0.5)
        ' man 0.5'
    """
    words = {
        "model": _NOT_PLAIN.sub("?", model)[:MAX_MODEL_CHARACTERS],
        "strength": f"{strength:g}",
    }
    return _PLACEHOLDER.sub(lambda found: words[found[1]], template)
