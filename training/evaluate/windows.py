"""Names of display windows, on the command line and in published tables."""

from __future__ import annotations

from man_core.quality import ABDOMEN_EXAM, CHEST_EXAM, HEAD_EXAM, LUNG, SOFT_TISSUE, Window
from training.errors import RecipeError

WINDOWS: dict[str, Window] = {
    "soft": SOFT_TISSUE,
    "lung": LUNG,
    "abdomen-exam": ABDOMEN_EXAM,
    "chest-exam": CHEST_EXAM,
    "head-exam": HEAD_EXAM,
}
"""Windows by their name on the command line."""

WINDOW_NAMES: dict[Window, str] = {
    SOFT_TISSUE: "soft tissue",
    LUNG: "lung",
    CHEST_EXAM: "chest exam",
    ABDOMEN_EXAM: "abdomen exam",
    HEAD_EXAM: "head exam",
}
"""Names of windows in published tables."""


def window_of(text: str) -> Window:
    """Parse a window: a name, or ``LOW,HIGH`` in HU.

    Raises:
        RecipeError: It is neither.
    """
    if text in WINDOWS:
        return WINDOWS[text]
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not low < high:
        raise RecipeError(f"Unknown window {text!r}; use {', '.join(WINDOWS)}, or LOW,HIGH in HU.")
    return low, high
