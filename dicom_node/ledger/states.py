"""States of series, jobs and deliveries, and their transitions; all others are errors.

::

    series     ARRIVING → COMPLETE → ENQUEUED | SKIPPED → PURGED      a late slice: back to ARRIVING

    job        QUEUED → DENOISING → DERIVED → SENDING → DONE
               RETRY_WAIT on a passing fault, FAILED on a lasting one, CANCELLED by an operator

    delivery   PENDING → SENDING → CONFIRMED
               COMMITTING between both where the destination has to commit to what it stored,
               PENDING again on a passing fault, REFUSED on a lasting one

Once its results are durable, the state of a job follows from its deliveries
(:mod:`dicom_node.ledger.rollup`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import TypeVar

from dicom_node.errors import InputError


class SeriesState(StrEnum):
    """States of a received series."""

    ARRIVING = "ARRIVING"
    COMPLETE = "COMPLETE"
    ENQUEUED = "ENQUEUED"
    SKIPPED = "SKIPPED"
    PURGED = "PURGED"


class JobState(StrEnum):
    """States of the work on one generation of a series."""

    QUEUED = "QUEUED"
    DENOISING = "DENOISING"
    DERIVED = "DERIVED"
    SENDING = "SENDING"
    RETRY_WAIT = "RETRY_WAIT"
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class DeliveryState(StrEnum):
    """States of the delivery of one job's results to one destination."""

    PENDING = "PENDING"
    SENDING = "SENDING"
    COMMITTING = "COMMITTING"
    CONFIRMED = "CONFIRMED"
    REFUSED = "REFUSED"


class WrongState(InputError):  # noqa: N818 - the name says what is wrong
    """The requested change cannot follow the present state."""


_S, _J, _D = SeriesState, JobState, DeliveryState

SERIES_TRANSITIONS: Mapping[SeriesState, frozenset[SeriesState]] = MappingProxyType(
    {
        _S.ARRIVING: frozenset({_S.COMPLETE}),
        _S.COMPLETE: frozenset({_S.ENQUEUED, _S.SKIPPED, _S.ARRIVING}),
        _S.ENQUEUED: frozenset({_S.PURGED, _S.ARRIVING}),
        _S.SKIPPED: frozenset({_S.PURGED, _S.ARRIVING}),
        _S.PURGED: frozenset({_S.ARRIVING}),
    }
)
"""Back to ARRIVING is a slice that came late: the next generation of the series."""

TRANSITIONS: Mapping[JobState, frozenset[JobState]] = MappingProxyType(
    {
        _J.QUEUED: frozenset({_J.DENOISING, _J.CANCELLED}),
        # QUEUED again: the lease was lost or given back before the results were durable.
        _J.DENOISING: frozenset({_J.DERIVED, _J.QUEUED, _J.RETRY_WAIT, _J.FAILED, _J.CANCELLED}),
        # From here on the deliveries decide; a late storage commitment report may end any of them.
        _J.DERIVED: frozenset({_J.SENDING, _J.RETRY_WAIT, _J.DONE, _J.FAILED, _J.CANCELLED}),
        _J.SENDING: frozenset({_J.DONE, _J.DERIVED, _J.RETRY_WAIT, _J.FAILED, _J.CANCELLED}),
        _J.RETRY_WAIT: frozenset(
            {_J.QUEUED, _J.DERIVED, _J.SENDING, _J.DONE, _J.FAILED, _J.CANCELLED}
        ),
        _J.FAILED: frozenset({_J.QUEUED, _J.DERIVED, _J.DONE, _J.CANCELLED}),
        _J.CANCELLED: frozenset({_J.QUEUED, _J.DERIVED, _J.DONE}),
        _J.DONE: frozenset(),
    }
)
"""FAILED and CANCELLED are left by an operator's retry; FAILED also when a destination commits
to everything after it was given up."""

DELIVERY_TRANSITIONS: Mapping[DeliveryState, frozenset[DeliveryState]] = MappingProxyType(
    {
        # CONFIRMED at once: the report of a commitment that was given up came after all.
        _D.PENDING: frozenset({_D.SENDING, _D.CONFIRMED}),
        _D.SENDING: frozenset({_D.CONFIRMED, _D.COMMITTING, _D.PENDING, _D.REFUSED}),
        _D.COMMITTING: frozenset({_D.CONFIRMED, _D.PENDING, _D.REFUSED}),
        _D.REFUSED: frozenset({_D.PENDING, _D.CONFIRMED}),
        _D.CONFIRMED: frozenset(),
    }
)

CLOSED = frozenset({JobState.DONE, JobState.CANCELLED})
"""States of a job of which nothing remains to be done."""

SENDABLE = frozenset({JobState.DERIVED, JobState.SENDING, JobState.RETRY_WAIT})
"""States of a job whose pending deliveries may be claimed, once its results are durable."""

_State = TypeVar("_State", SeriesState, JobState, DeliveryState)


def check_transition(
    table: Mapping[_State, frozenset[_State]], before: _State, after: _State, what: str
) -> None:
    """Raise :class:`WrongState` unless ``table`` lets ``after`` follow ``before``.

    Example:
        >>> check_transition(TRANSITIONS, JobState.QUEUED, JobState.DENOISING, "Job 1")
        >>> check_transition(TRANSITIONS, JobState.DONE, JobState.QUEUED, "Job 1")
        Traceback (most recent call last):
        dicom_node.ledger.states.WrongState: Job 1 is DONE and cannot become QUEUED.
    """
    if after not in table[before]:
        raise WrongState(f"{what} is {before} and cannot become {after}.")
