"""Configurations come from files: a word that no branch knows must not pass for another."""

from __future__ import annotations

from collections.abc import Sequence


def require_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """See to it that a configuration's word is a known one.

    Raises:
        ValueError: It is not.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
