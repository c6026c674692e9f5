"""Validation of keywords in configurations that come from files."""

from __future__ import annotations

from collections.abc import Sequence


def require_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Require a configuration value to be one of the known keywords.

    Raises:
        ValueError: It is none of them.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
