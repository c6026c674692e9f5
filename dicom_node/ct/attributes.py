"""Values of a header's attributes, read without trusting their types.

A value that breaks its type's rules raises almost anything in pydicom's converters; here it counts
as absent.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

from pydicom import Dataset
from pydicom.multival import MultiValue

MAX_QUOTED_CHARACTERS: Final = 64
"""Names from a header are cut to this length in messages."""


def number(header: Dataset, keyword: str) -> float | None:
    """Return the single number of an attribute; None when it is absent or not a number."""
    values = numbers(header, keyword)
    return values[0] if len(values) == 1 else None


def numbers(header: Dataset, keyword: str) -> tuple[float, ...]:
    """Return an attribute's values as finite numbers; empty when any of them is not a number."""
    try:
        values = tuple(float(one) for one in _values(header, keyword))
    except (TypeError, ValueError):
        return ()
    return values if all(math.isfinite(one) for one in values) else ()


def texts(header: Dataset, keyword: str) -> list[str]:
    """Return the non-empty values of an attribute as text, without surrounding spaces."""
    return [text for one in _values(header, keyword) if (text := str(one).strip())]


def quoted(value: object) -> str:
    """Return a header's code or name in a form fit for a message: short, without odd characters."""
    text = re.sub(r"[^\w .()/-]", "?", str(value), flags=re.ASCII)
    return text[:MAX_QUOTED_CHARACTERS] or "unnamed"


def _values(header: Dataset, keyword: str) -> list[Any]:
    try:
        value = header.get(keyword)
    except Exception:  # a value of a wrong type breaks its converter in any way
        return []
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue) else [value]
