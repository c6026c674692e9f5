"""One converter process as its parent sees it."""

from __future__ import annotations

import fcntl
import os
import secrets
import select
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from dicom_node.ct.conversion.messages import NONCE_BYTES, Request, receive_answer, send_request
from dicom_node.errors import NodeError

END_SECONDS: Final = 5.0

STALL_SECONDS: Final = 60.0
"""Without an answer and without processor time: it was stopped, or waits for a disk that hangs."""

PIPE_BYTES: Final = 1 << 20
"""Most that Linux gives to a pipe of an ordinary user: a slice passes in one or two pieces."""


class Ended(Exception):  # noqa: N818 - the name says what happened
    """A process has ended, with this exit code; or it has been ended, since it stood still."""

    def __init__(self, code: int, *, stalled: bool = False) -> None:
        super().__init__(code)
        self.code, self.stalled = code, stalled


class Stalled(Exception):  # noqa: N818 - the name says what happened
    """A process neither answers nor works."""


class ConverterProcess:
    """One converter process; used by one thread at a time.

    Args:
        command: Program that it runs.
        stall_seconds: How long it may stand still before it is ended.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self, command: Sequence[str], stall_seconds: float = STALL_SECONDS) -> None:
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
        for pipe in (self._requests, self._answers):
            with suppress(OSError):  # a user's pipes may be many
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            os.set_blocking(pipe.fileno(), False)
        self._stall_seconds, self._abandoned = stall_seconds, False

    @property
    def pid(self) -> int:
        """Process ID."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return not self._abandoned and self._process.poll() is None

    def ask(
        self,
        request: Request,
        hu: NDArray[np.float32] | None = None,
        into: Sequence[NDArray[Any]] = (),
    ) -> bytes:
        """Make a request; see ``receive_answer``.

        Raises:
            NodeError: The request cannot be carried out.
            RuntimeError: The same, for an unknown reason.
            Ended: The process has ended, or stood still and was ended.
            ValueError: Its answer is none; it has been killed.
        """
        nonce = secrets.token_bytes(NONCE_BYTES)
        try:
            send_request(self._waiting(self._requests), nonce, request, hu)
            return receive_answer(self._waiting(self._answers), nonce, into)
        except Stalled:
            self.kill()
            raise Ended(-signal.SIGKILL, stalled=True) from None
        except (BrokenPipeError, EOFError):
            raise Ended(self.end()) from None
        except (NodeError, RuntimeError):
            raise
        except BaseException:  # an answer that nobody has read would be taken for another's
            self.kill()
            raise

    def _waiting(self, pipe: FileIO) -> _WaitingPipe:
        return _WaitingPipe(pipe, self._process.pid, self._stall_seconds)

    def finish(self) -> None:
        """Tell the process that there are no more requests."""
        self._requests.close()

    def end(self, seconds: float = END_SECONDS) -> int:
        """Wait for the end of the process, kill it if it takes too long; return its exit code.

        One that waits for a disk cannot be killed before the disk answers: it is abandoned.
        """
        self.finish()
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = self._killed()
        self._answers.close()
        return code

    def _killed(self) -> int:
        self._process.kill()
        try:
            return self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._abandoned = True
            return -signal.SIGKILL

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self.end()


class _WaitingPipe:
    """End of a pipe that waits for the other process only while that works.

    Args:
        pipe: The end, which does not block.
        pid: The other process.
        seconds: How long that may stand still.
    """

    def __init__(self, pipe: FileIO, pid: int, seconds: float) -> None:
        self._pipe, self._pid, self._seconds = pipe, pid, seconds

    def write(self, data: memoryview, /) -> int | None:
        """Write the beginning of the data once there is room.

        Raises:
            Stalled: The other process stands still.
        """
        self._wait(select.POLLOUT)
        return self._pipe.write(data)

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Read into the beginning of the buffer once there is something.

        Raises:
            Stalled: The other process stands still.
        """
        self._wait(select.POLLIN)
        return self._pipe.readinto(buffer)

    def _wait(self, event: int) -> None:
        poll = select.poll()
        poll.register(self._pipe, event)
        used = _processor_ticks(self._pid)
        while not poll.poll(1000 * self._seconds):
            before, used = used, _processor_ticks(self._pid)
            if used == before:
                raise Stalled


def _processor_ticks(pid: int) -> int:
    """Return the processor time of all threads of a process; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])
