"""Processes that decode compressed frames: started when needed, asked by several threads."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import FileIO
from threading import Semaphore
from typing import Any, Final, cast

from numpy.typing import NDArray

from dicom_node.ct.decoding.frame import Frame, Outcome, receive_answer, send_frame

COMMAND: Final = (sys.executable, "-m", "dicom_node.ct.decoding")

MAX_PROCESSES: Final = 4

CORES_PER_PROCESS: Final = 2
"""The rest of a series' way takes as long as decoding; and JPEG 2000 has threads of its own."""

ATTEMPTS: Final = 2
"""A process that was killed from outside says nothing about the frame: another one decodes it."""

END_SECONDS: Final = 5.0

_CRASHES: Final = "its decoder crashes"
_TOO_MUCH_MEMORY: Final = "decoding takes more memory than an image of its size needs"

_OF_ITS_WORK: Final[Mapping[int, str]] = {
    signal.SIGPROF: "decoding takes too much processor time",
    signal.SIGALRM: "decoding takes too long",
    signal.SIGSEGV: _CRASHES,
    signal.SIGBUS: _CRASHES,
    signal.SIGABRT: _CRASHES,
    signal.SIGFPE: _CRASHES,
    signal.SIGILL: _CRASHES,
}
"""Signals that end a process because of the frame that it decodes."""


class UndecodableFrame(Exception):  # noqa: N818 - the name says what the frame is
    """The frame cannot be decoded; the message is a clause, empty where it is just damaged."""


class DecoderLost(Exception):  # noqa: N818 - the name says what happened
    """Processes cannot be started, or end for reasons outside; the message is a clause."""


class _Ended(Exception):  # noqa: N818 - the name says what happened
    """A process has ended, with this exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Process:
    """One decoder process; used by one thread at a time."""

    def __init__(self, command: Sequence[str]) -> None:
        # A session of its own keeps a Ctrl-C in the terminal from reaching it.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )
        self._requests = cast(FileIO, self._process.stdin)
        self._answers = cast(FileIO, self._process.stdout)

    def decode(self, frame: Frame) -> tuple[Outcome, NDArray[Any] | None]:
        """Decode a frame.

        Raises:
            _Ended: The process has ended.
            ValueError: Its answer is none.
        """
        try:
            send_frame(self._requests, frame)
            return receive_answer(self._answers, frame.shape)
        except (BrokenPipeError, EOFError):
            raise _Ended(self.end()) from None

    def finish(self) -> None:
        """Tell the process that there is no more to decode."""
        self._requests.close()

    def end(self, seconds: float = END_SECONDS) -> int:
        """Wait for the end of the process, kill it if it takes too long; return its exit code."""
        self.finish()
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._answers.close()
        return code

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self.end()


class DecoderPool:
    """Decoder processes; each is started when all others are busy, and kept until ``close``.

    Args:
        size: Number of processes at most; further threads wait.
        command: Program that each runs.
    """

    def __init__(self, size: int, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._size, self._places = size, Semaphore(size)
        self._idle: list[_Process] = []
        self._others: list[_Process] = []

    def start(self) -> None:
        """Start all processes now, so that they are ready when the first frame comes."""
        with suppress(DecoderLost):  # a frame will say so
            while len(self._idle) < self._size:
                self._idle.append(self._started())

    def decode(self, frame: Frame) -> NDArray[Any]:
        """Decode the words [row, column] of a frame, unused bits untouched.

        Raises:
            UndecodableFrame: The frame is damaged, or more than a frame of its size may be.
            DecoderLost: The system has no room for a process, or somebody ends them.
        """
        with self._places:
            for _ in range(ATTEMPTS):
                try:
                    return self._decode(frame)
                except _Ended as ended:
                    cause = _OF_ITS_WORK.get(-ended.code)
                    if cause is not None:
                        raise UndecodableFrame(cause) from None
                    code = ended.code
        raise DecoderLost(f"its decoder ended {ATTEMPTS} times with exit code {code}")

    def close(self) -> None:
        """End the idle processes."""
        ending, self._idle = self._idle, []
        for one in ending:
            one.finish()
        for one in ending:
            one.end()

    def forget(self) -> None:
        """Leave the processes to the parent of this process, which has been forked."""
        self._others += self._idle
        self._idle, self._places = [], Semaphore(self._size)

    def _decode(self, frame: Frame) -> NDArray[Any]:
        try:
            process = self._idle.pop()
        except IndexError:
            process = self._started()
        try:
            outcome, words = process.decode(frame)
        except ValueError:
            process.kill()
            raise UndecodableFrame(_CRASHES) from None
        except BaseException:  # an answer that nobody has read would be taken for another frame's
            process.kill()
            raise
        self._idle.append(process)
        if words is None:
            raise UndecodableFrame(_TOO_MUCH_MEMORY if outcome is Outcome.NO_MEMORY else "")
        return words

    def _started(self) -> _Process:
        try:
            return _Process(self._command)
        except OSError as error:
            raise DecoderLost(f"no decoder can be started ({error.strerror})") from error


DECODERS: Final = DecoderPool(
    min(max((os.cpu_count() or 1) // CORES_PER_PROCESS, 1), MAX_PROCESSES)
)
"""The decoder processes of this process."""

atexit.register(DECODERS.close)
os.register_at_fork(after_in_child=DECODERS.forget)
