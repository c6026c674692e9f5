"""Suffix of a derived Series Description: the site's template, filled in for one series.

Both the settings, which check it when they are read, and the derivation, which fills it in, need
this module, so it lies below both.
"""

from __future__ import annotations

import re
from typing import Final

MAX_TEMPLATE_CHARACTERS: Final = 32
"""Limit of the template as written. Filled in it has at most 51, and 63 with a dose gain appended,
of the 64 characters of a Series Description (VR LO, PS3.5 6.2)."""

MAX_MODEL_CHARACTERS: Final = 24
"""Limit of a model's name in a description; longer ones are cut."""

PLACEHOLDERS: Final = ("model", "strength", "dose_gain")

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
        raise ValueError("only {model}, {strength} and {dose_gain} are allowed between braces")
    if len(set(found)) < len(found):
        twice = next(name for name in PLACEHOLDERS if found.count(name) > 1)
        raise ValueError(f"{{{twice}}} occurs twice, keep one of them")
    return template


def fill_suffix(
    template: str,
    *,
    model: str,
    strength: float,
    dose_gain: float | None = None,
    default_gain: float | None = None,
) -> str:
    """Fill model, strength and dose gain (``1``, ``0.5``) into a template.

    Args:
        template: As in the settings.
        model: Name of the model.
        strength: 0 to 1.
        dose_gain: At least 1; None, for which nothing is filled in: the model is not told it.
        default_gain: Default of the model. Another dose gain is appended to a template that does
            not name it.

    Example:
        >>> fill_suffix(" {model} {strength}", model="man", strength=0.5)
        ' man 0.5'
        >>> fill_suffix(" MAN", model="man", strength=1.0, dose_gain=8.0, default_gain=4.0)
        ' MAN dose x8'
    """
    gain = "" if dose_gain is None else f"{dose_gain:.4g}"
    words = {
        "model": _NOT_PLAIN.sub("?", model)[:MAX_MODEL_CHARACTERS],
        "strength": f"{strength:g}",
        "dose_gain": gain,
    }
    filled = _PLACEHOLDER.sub(lambda found: words[found[1]], template)
    appended = dose_gain != default_gain and "{dose_gain}" not in template
    return f"{filled} dose x{gain}" if appended else filled
