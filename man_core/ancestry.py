"""Ancestry of weights: the models and runs that a fit started from. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

MAX_ANCESTORS = 32
"""Maximum length of a chain in a card."""


@dataclass(frozen=True)
class Ancestor:
    """Weights that a fit started from, directly or through other fits.

    Attributes:
        name: Name of the model, or recipe of a run that was not exported.
        digest: ``ModelCard.digest``; of a run, the SHA-256 over its weights.
        trained_on: Data and fit, as in the card.
        licence: Licence of the weights; empty if not stated.
        credits: Data collections and people to credit.
        weights_sha256: Hash of the weights file; empty for a run.
    """

    name: str
    digest: str
    trained_on: str = ""
    licence: str = ""
    credits: tuple[str, ...] = ()
    weights_sha256: str = ""


def chain(parent: Ancestor, older: Sequence[Ancestor]) -> tuple[Ancestor, ...]:
    """Return the ancestors of a fit, the newest first, each once.

    Of a longer chain than ``MAX_ANCESTORS`` the newest ones and the very first remain; licences and
    credits of those between go to the first, so that none is lost.

    Args:
        parent: Weights that the fit starts from.
        older: Their ancestors, the newest first.
    """
    by_digest: dict[str, Ancestor] = {}
    for one in (parent, *older):
        by_digest.setdefault(one.digest, one)
    once = tuple(by_digest.values())
    if len(once) <= MAX_ANCESTORS:
        return once
    *between, first = once[MAX_ANCESTORS - 1 :]
    merged = replace(
        first,
        licence="; ".join(_distinct(one.licence for one in (first, *between))),
        credits=_distinct(credit for one in (first, *between) for credit in one.credits),
    )
    return (*once[: MAX_ANCESTORS - 1], merged)


def read_chain(ancestors: Sequence[Mapping[str, Any]]) -> tuple[Ancestor, ...]:
    """Parse a chain of JSON.

    Raises:
        TypeError: An entry is none of an ancestor.
        ValueError: The chain is too long.
    """
    if len(ancestors) > MAX_ANCESTORS:
        raise ValueError(f"it has more than {MAX_ANCESTORS} ancestors")
    return tuple(Ancestor(**{**one, "credits": tuple(one["credits"])}) for one in ancestors)


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text))
