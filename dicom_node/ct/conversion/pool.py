"""Converter processes: started when needed, asked by several threads."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from threading import Condition
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.ct.conversion.messages import Derive, Object, Read, Release, Request, SeriesLabels
from dicom_node.ct.conversion.process import STALL_SECONDS, ConverterProcess, Ended
from dicom_node.ct.conversion.slices import NOT_KEPT
from dicom_node.ct.image_file import ImageFile
from dicom_node.errors import NodeError, StorageError, UnreadableFile

COMMAND: Final = (sys.executable, "-P", "-m", "dicom_node.ct.conversion")
"""``-P``: a folder of images may hold files named like modules; they must not run."""

MAX_PROCESSES: Final = 8

SLICES_PER_PROCESS: Final = 16
"""Slices for which a further process is worth its start."""

ATTEMPTS: Final = 2
"""A process that was killed from outside says nothing about the image: another one is asked."""

_CRASHES: Final = "its decoder crashes"

_OF_ITS_WORK: Final[Mapping[int, str]] = {
    signal.SIGPROF: "decoding takes too much processor time",
    signal.SIGALRM: "decoding takes too long",
    signal.SIGSEGV: _CRASHES,
    signal.SIGBUS: _CRASHES,
    signal.SIGABRT: _CRASHES,
    signal.SIGFPE: _CRASHES,
    signal.SIGILL: _CRASHES,
}
"""Signals that end a process because of the image that it works on."""


@dataclass(frozen=True, eq=False)
class ReadSlice:
    """A slice that a process has read and may keep until it is derived.

    Attributes:
        file: The file.
        hu: [row, column]; padding is air.
        padding: [row, column], True where the scanner had no data.
        digest: Hash of the stored words, hexadecimal.
        ticket: Number under which the process keeps it.
        keeper: The process.
    """

    file: ImageFile
    hu: NDArray[np.float32]
    padding: NDArray[np.bool_]
    digest: str
    ticket: int
    keeper: ConverterProcess


class ConverterPool:
    """Converter processes; each is started when all others are busy, and kept until ``close``.

    Args:
        size: Number of processes at most; further threads wait.
        command: Program that each runs.
        stall_seconds: How long each may stand still.
    """

    def __init__(
        self, size: int, command: Sequence[str] = COMMAND, stall_seconds: float = STALL_SECONDS
    ) -> None:
        self.size, self._new = size, partial(ConverterProcess, command, stall_seconds)
        self._tickets = count(NOT_KEPT + 1)
        self._others: list[ConverterProcess] = []
        self._reset()

    def _reset(self) -> None:
        self._changed = Condition()
        self._idle: list[ConverterProcess] = []
        self._busy: set[ConverterProcess] = set()
        self._starting = 0
        self._awaited: list[ConverterProcess] = []

    def size_for(self, slices: int) -> int:
        """Return the number of processes for a series: those that run, or that it is worth."""
        with self._changed:
            running = len(self._idle) + len(self._busy)
        return min(self.size, max(running, -(-slices // SLICES_PER_PROCESS)))

    def start(self, slices: int) -> None:
        """Start the processes for a series now, so that they are ready when it is read."""
        wanted = self.size_for(slices)
        with self._changed, suppress(OSError):  # the first request will say so
            while len(self._idle) < wanted:
                self._idle.append(self._new())

    def read(self, file: ImageFile, *, keep: bool = False) -> ReadSlice:
        """Read a slice.

        Args:
            file: The file.
            keep: Whether it will be derived.

        Raises:
            UnreadableFile: As ``read_slice``, or it crashes its process.
            NotForUs: As ``read_slice``.
            InputError: As ``read_slice``.
            StorageError: As ``read_slice``, or the system has no room for a process, or somebody
                ends them.
        """
        hu, padding = np.empty(file.shape, np.float32), np.empty(file.shape, np.uint8)
        ticket = next(self._tickets) if keep else NOT_KEPT
        work = _Work(f"{file.name} cannot be decoded", Read(file, ticket), into=(hu, padding))
        digest, keeper = self._done(work)
        return ReadSlice(file, hu, padding != 0, digest.hex(), ticket, keeper)

    def derive(
        self,
        source: ReadSlice,
        hu: NDArray[np.float32],
        target: Path,
        labels: SeriesLabels,
        beside: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Write the derived image of a slice.

        Args:
            source: The slice, which is read again if its process has ended or has no room for it.
            hu: The denoised slice [row, column].
            target: The file to write.
            labels: Labels of the series.
            beside: SOP class and instance of the slices that the model saw beside it.

        Raises:
            ValueError: The result does not have the shape of the source.
            UnreadableFile: The source has changed, or its header cannot be written.
            InputError: The source is not there any more.
            StorageError: The disk is full or the folder not writable, or as :meth:`read`.
        """
        if hu.shape != source.file.shape:
            raise ValueError(f"The result has shape {hu.shape}, not the source's.")
        request = Derive(
            source.file, source.ticket, source.digest, target.absolute(), labels, beside
        )
        what = f"{source.file.name} cannot be derived"
        self._done(_Work(what, request, hu), source.keeper)

    def add_objections(
        self, file: ImageFile, target: Path, labels: SeriesLabels, flagged: str
    ) -> None:
        """Add the guard's objections to the derived image of a file.

        Raises:
            UnreadableFile: The source has changed, or its header cannot be written.
            InputError: The source is not there any more.
            StorageError: The disk is full or the folder not writable, or as :meth:`read`.
        """
        request = Object(file, target.absolute(), labels, flagged)
        self._done(_Work(f"{file.name} cannot be derived", request))

    def release(self, slices: Iterable[ReadSlice]) -> None:
        """Let the processes forget slices that will not be derived."""
        tickets: dict[ConverterProcess, list[int]] = {}
        for one in slices:
            if one.ticket != NOT_KEPT and one.keeper.is_running:
                tickets.setdefault(one.keeper, []).append(one.ticket)
        for keeper, kept in tickets.items():
            with suppress(NodeError, Ended, ValueError):  # what is not there need not be forgotten
                self._asked(self._taken(keeper), _Work("", Release(kept)))

    def close(self) -> None:
        """End the idle processes."""
        with self._changed:
            ending, self._idle = self._idle, []
        for one in ending:
            one.finish()
        for one in ending:
            one.end()

    def forget(self) -> None:
        """Leave the processes to the parent of this process, which has been forked."""
        self._others += [*self._idle, *self._busy]  # to close their pipes is not for this process
        self._reset()

    def _done(
        self, work: _Work, keeper: ConverterProcess | None = None
    ) -> tuple[bytes, ConverterProcess]:
        """Do some work, by its keeper if it is there; return the answer, and who has done it."""
        for _ in range(ATTEMPTS):
            process, ended_by = self._taken(keeper, work.what), None
            try:
                return self._asked(process, work), process
            except ValueError:  # an earlier image may have spoilt the process
                cause: str | None = _CRASHES
            except Ended as ended:
                cause, ended_by = _OF_ITS_WORK.get(-ended.code), ended
                if cause is not None:
                    break
        if cause is not None or ended_by is None:
            raise UnreadableFile(f"{work.what}: {cause}: send it again.")
        end = "stood still" if ended_by.stalled else "ended"
        code = "" if ended_by.stalled else f" with exit code {ended_by.code}"
        raise StorageError(f"{work.what} now: its decoder {end} {ATTEMPTS} times{code}: try again.")

    def _asked(self, process: ConverterProcess, work: _Work) -> bytes:
        try:
            return process.ask(work.request, work.hu, work.into)
        finally:
            with self._changed:
                self._busy.discard(process)
                if process.is_running:
                    self._idle.append(process)
                self._changed.notify_all()

    def _taken(self, keeper: ConverterProcess | None, what: str = "") -> ConverterProcess:
        """Wait for a process that is idle, or start one; the keeper alone if it is there."""
        with self._changed:
            if keeper is not None:
                self._awaited.append(keeper)
            try:
                while (found := self._free(keeper)) is None and not self._has_room(keeper):
                    self._changed.wait()
            finally:
                if keeper is not None:
                    self._awaited.remove(keeper)
            if found is not None:
                self._idle.remove(found)
                self._busy.add(found)
                return found
            self._starting += 1
        return self._started(what)

    def _free(self, keeper: ConverterProcess | None) -> ConverterProcess | None:
        """An idle process: the keeper, or where it has ended the first that nobody waits for."""
        for one in [one for one in self._idle if not one.is_running]:
            self._idle.remove(one)
            one.end()
        if keeper in self._idle or keeper in self._busy:
            return keeper if keeper in self._idle else None
        return next((one for one in self._idle if one not in self._awaited), None)

    def _has_room(self, keeper: ConverterProcess | None) -> bool:
        if keeper in self._busy:
            return False
        return len(self._idle) + len(self._busy) + self._starting < self.size

    def _started(self, what: str) -> ConverterProcess:
        process = None
        try:
            process = self._new()
        except OSError as error:
            raise StorageError(
                f"{what} now: no decoder can be started ({error.strerror}): try again."
            ) from error
        finally:
            with self._changed:
                self._starting -= 1
                if process is not None:
                    self._busy.add(process)
                self._changed.notify_all()
        return process


@dataclass(frozen=True)
class _Work:
    """A request, what to say if it cannot be carried out, and the arrays that go with it."""

    what: str
    request: Request
    hu: NDArray[np.float32] | None = None
    into: Sequence[NDArray[Any]] = ()


CONVERTERS: Final = ConverterPool(min(len(os.sched_getaffinity(0)), MAX_PROCESSES))
"""The converter processes of this process."""

atexit.register(CONVERTERS.close)
os.register_at_fork(after_in_child=CONVERTERS.forget)
