"""Senders that were turned away because the door is full: noted by receivers, read by the web.

A record for each host lies beside its telemetry: since when without a longer break, when last, and
how often. Counters cannot say that; they know no time.
"""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from dicom_node.telemetry import folder_of_host

MAX_BREAK_SECONDS = 360.0
"""Senders come again within minutes; a longer break ends a run."""

_NAME = "turned-away"
_RECORD = struct.Struct("<ddd")


@dataclass(frozen=True)
class TurnedAway:
    """A run of refusals without a longer break.

    Attributes:
        since: Seconds since 1970.
        last: Likewise.
        count: How many there were.
    """

    since: float
    last: float
    count: int

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return self.last - self.since

    @property
    def per_minute(self) -> float:
        """The rate of refusals."""
        return 60.0 * self.count / max(self.seconds, 60.0)


def note_turned_away(folder: Path, now: float) -> None:
    """Note that a sender got no place.

    Args:
        folder: Where the processes of all hosts count.
        now: Seconds since 1970.

    Raises:
        OSError: It cannot be written down.
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
    """The longest run of refusals that goes on now, over all hosts; None when there is none.

    Args:
        folder: Where the processes of all hosts count.
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
    """What a record says, unless its last refusal is long ago, or later than now."""
    if len(data) != _RECORD.size:
        return None
    since, last, count = _RECORD.unpack(data)
    if not since <= last <= now + 1.0 or now - last > MAX_BREAK_SECONDS:
        return None
    return TurnedAway(since, last, int(count))
