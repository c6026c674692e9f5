"""Crash records: one for each process, which survives a fatal error and is read afterwards.

A process may die from outside (killed by somebody, a power cut) or from its own work (a decoder
aborts, memory runs out). Only the second kind leaves evidence: the interpreter writes a record when
it ends by a fatal signal, and the kernel counts the processes that it kills for lack of memory.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dicom_node.logs import get_logger

log = get_logger(__name__)

RECORD_BYTES = 512
"""Length of the record's own part, after which the interpreter writes."""

MAX_DUMP_BYTES = 4096

OUT_OF_MEMORY = "killed by the kernel for lack of memory"

_COUNTERS = (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events"))
_FATAL = "Fatal Python error: "


@dataclass(frozen=True)
class Crash:
    """A process that died of its own work.

    Attributes:
        owner: Name of the process, as in the ledger.
        work: The work in progress; empty for none.
        cause: Cause of death, in a few words.
    """

    owner: str
    work: str
    cause: str


class CrashRecord:
    """The record of this process; use it as a context manager around the process's body.

    Args:
        folder: Folder of all processes' records.
        owner: Name of this process.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        self._path, self._owner = _path(folder, owner), owner
        self._descriptor = -1

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)
        except OSError as error:  # work goes on without a record
            log.warning("no crash record can be kept", reason=error.strerror)
            return self
        self._write("")
        os.lseek(self._descriptor, RECORD_BYTES, os.SEEK_SET)
        faulthandler.enable(self._descriptor, all_threads=False)
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor < 0:
            return
        faulthandler.disable()
        os.close(self._descriptor)
        self._descriptor = -1
        self._path.unlink(missing_ok=True)

    @contextmanager
    def holding(self, work: str) -> Iterator[None]:
        """Record the work in progress while the block runs."""
        self._write(work)
        try:
            yield
        finally:
            self._write("")

    def _write(self, work: str) -> None:
        if self._descriptor < 0:
            return
        record = {"owner": self._owner, "work": work, "oom_kills": _oom_kills()}
        with suppress(OSError):
            text = json.dumps(record).ljust(RECORD_BYTES - 1)[: RECORD_BYTES - 1] + "\n"
            os.pwrite(self._descriptor, text.encode(), 0)


def read_crash(folder: Path, owner: str, is_dead: Callable[[str], bool]) -> Crash | None:
    """Return how a process died; None without evidence that its work was the cause."""
    return _read(_path(folder, owner), is_dead)


def crash_causes(folder: Path, is_dead: Callable[[str], bool]) -> Callable[[str], str]:
    """Return a function from owner to cause of death; empty without evidence against its work."""

    def cause(owner: str) -> str:
        crash = read_crash(folder, owner, is_dead)
        return "" if crash is None else crash.cause

    return cause


def read_crashes(folder: Path, is_dead: Callable[[str], bool]) -> list[Crash]:
    """Return the crashes of all processes that are known to be dead."""
    found = [_read(path, is_dead) for path in sorted(folder.glob("*.json"))]
    return [one for one in found if one is not None and is_dead(one.owner)]


def remove_crash_record(folder: Path, owner: str) -> None:
    """Remove the record of a process once the ledger has its consequences."""
    _path(folder, owner).unlink(missing_ok=True)


def _path(folder: Path, owner: str) -> Path:
    return folder / f"{hashlib.sha256(owner.encode()).hexdigest()[:16]}.json"


def _read(path: Path, is_dead: Callable[[str], bool]) -> Crash | None:
    try:
        with path.open("rb") as file:
            record = json.loads(file.read(RECORD_BYTES))
            dump = file.read(MAX_DUMP_BYTES).decode("ascii", "replace")
        owner, work, before = record["owner"], record["work"], record["oom_kills"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if _FATAL in dump:
        return Crash(owner, work, dump.split(_FATAL, 1)[1].split("\n", 1)[0].strip())
    # Each host's kernel has its own count.
    killed = is_dead(owner) and _oom_kills() > before
    return Crash(owner, work, OUT_OF_MEMORY) if killed else None


def _oom_kills() -> int:
    """Return how many processes the kernel has killed for lack of memory since boot."""
    kills = 0
    for path in _COUNTERS:
        with suppress(OSError, ValueError):
            for line in path.read_text(encoding="ascii").splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    kills = max(kills, int(count))
    return kills
