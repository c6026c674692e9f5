"""Record of senders that were turned away because all associations were in use.

Receivers write one record for each host beside its telemetry: start, end and number of refusals
without a longer break. A counter cannot tell their duration.
"""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from dicom_node.telemetry import folder_of_host

MAX_BREAK_SECONDS = 360.0
"""Senders try again within minutes; a longer break ends a run of refusals."""

_NAME = "turned-away"
_RECORD = struct.Struct("<ddd")


@dataclass(frozen=True)
class TurnedAway:
    """A run of refusals without a longer break.

    Attributes:
        since: Time of the first, in seconds since 1970.
        last: Time of the last, in seconds since 1970.
        count: Number of refusals.
    """

    since: float
    last: float
    count: int

    @property
    def seconds(self) -> float:
        """Duration from the first to the last."""
        return self.last - self.since

    @property
    def per_minute(self) -> float:
        """Refusals per minute."""
        return 60.0 * self.count / max(self.seconds, 60.0)


def note_turned_away(folder: Path, now: float) -> None:
    """Record that a sender was turned away.

    Args:
        folder: Folder of the telemetry of all hosts.
        now: Seconds since 1970.

    Raises:
        OSError: The record cannot be written.
    """
    own = folder_of_host(folder)
    own.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(own / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        run = _run(os.pread(descriptor, _RECORD.size, 0), now) or TurnedAway(now, now, 0)
        os.pwrite(descriptor, _RECORD.pack(run.since, now, run.count + 1), 0)
    finally:
        os.close(descriptor)


def turned_away(folder: Path, now: float) -> TurnedAway | None:
    """Return the longest current run of refusals over all hosts; None for none.

    Args:
        folder: Folder of the telemetry of all hosts.
        now: Seconds since 1970.
    """
    runs = []
    for path in folder.glob(f"*/{_NAME}"):
        try:
            runs.append(_run(path.read_bytes(), now))
        except OSError:
            continue
    return max((run for run in runs if run is not None), key=lambda run: run.seconds, default=None)


def _run(data: bytes, now: float) -> TurnedAway | None:
    """Decode a record; None if its last refusal is too long ago, or in the future."""
    if len(data) != _RECORD.size:
        return None
    since, last, count = _RECORD.unpack(data)
    if not since <= last <= now + 1.0 or now - last > MAX_BREAK_SECONDS:
        return None
    return TurnedAway(since, last, int(count))
