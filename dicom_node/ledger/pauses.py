"""Pauses of stages: work under way is finished, no new work is begun."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from dicom_node.errors import InputError
from dicom_node.ledger.engine import Ledger, repeated
from dicom_node.ledger.tables import PauseRow

STAGES = "denoise, send or send:DESTINATION"


@dataclass(frozen=True)
class Pause:
    """A paused stage: ``denoise``, ``send`` or ``send:<destination>``.

    Attributes:
        since: Seconds since 1970.
    """

    stage: str
    reason: str
    since: float


@repeated
def pause(ledger: Ledger, stage: str, *, reason: str, now: float) -> None:
    """Pause a stage until :func:`resume`; pausing it twice changes the reason.

    Raises:
        InputError: There is no such stage.
    """
    check_stage(stage)
    with ledger.write() as session:
        row = session.get(PauseRow, stage, with_for_update=True)
        if row is None:
            session.add(PauseRow(stage=stage, reason=reason, since=now))
        else:
            row.reason = reason


@repeated
def resume(ledger: Ledger, stage: str) -> bool:
    """Resume a stage; return False when it was not paused.

    Raises:
        InputError: There is no such stage.
    """
    check_stage(stage)
    with ledger.write() as session:
        row = session.get(PauseRow, stage, with_for_update=True)
        if row is not None:
            session.delete(row)
        return row is not None


def list_pauses(ledger: Ledger) -> list[Pause]:
    """Return the paused stages, longest first."""
    with ledger.read() as session:
        rows = session.scalars(select(PauseRow).order_by(PauseRow.since, PauseRow.stage))
        return [Pause(row.stage, row.reason, row.since) for row in rows]


def check_stage(stage: str) -> None:
    """Refuse a stage that does not exist.

    Raises:
        InputError: There is no such stage.
    """
    kind, _, destination = stage.partition(":")
    if stage not in ("denoise", "send") and not (kind == "send" and destination):
        raise InputError(f"There is no stage {stage!r}; write {STAGES}.")
