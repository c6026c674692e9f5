"""Ages in words."""

from __future__ import annotations

_SIZES = (("d", 86_400.0), ("h", 3600.0), ("min", 60.0))


def age_in_words(seconds: float) -> str:
    """Format an age for people, such as ``35 min``."""
    for name, size in _SIZES:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"
