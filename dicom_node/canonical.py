"""Canonical JSON for hashing: equal values have the same text whatever their type.

SQLite returns a whole REAL as an integer from ``UPDATE ... RETURNING`` and as a float from
``SELECT``; PostgreSQL and the offline command give floats. Hashes of their plain texts would
identify the same work in two ways.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from numbers import Integral, Real


def canonical_json(value: object) -> str:
    """Serialize a value as JSON with sorted keys and one text for equal numbers.

    A whole number has no decimal point (``1``, never ``1.0``, and ``0`` for -0.0); others have the
    shortest text that reads back as the same double. Truth values are no numbers.

    Args:
        value: None, a truth value, text, a number, or lists, tuples and mappings of them.

    Raises:
        TypeError: The value contains any other type.
        ValueError: A number is not finite.

    Example:
        >>> canonical_json({"strength": 1.0, "model": "man", "steps": 4})
        '{"model": "man", "steps": 4, "strength": 1}'
    """
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real | Decimal):
        return _number(float(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    raise TypeError(f"a {type(value).__name__} has no canonical text")


def _number(value: float) -> int | float:
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a number that can be hashed")
    return int(value) if value.is_integer() else value
