"""One converter process as its parent sees it."""

from __future__ import annotations

import fcntl
import secrets
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from io import FileIO
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from dicom_node.ct.conversion.messages import NONCE_BYTES, Request, receive_answer, send_request
from dicom_node.errors import NodeError

END_SECONDS: Final = 5.0

PIPE_BYTES: Final = 1 << 20
"""Most that Linux gives to a pipe of an ordinary user: a slice passes in one or two pieces."""


class Ended(Exception):  # noqa: N818 - the name says what happened
    """A process has ended, with this exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class ConverterProcess:
    """One converter process; used by one thread at a time.

    Args:
        command: Program that it runs.

    Raises:
        OSError: It cannot be started.
    """

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
        for pipe in (self._requests, self._answers):
            with suppress(OSError):  # a user's pipes may be many
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    @property
    def pid(self) -> int:
        """Process ID."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

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
            Ended: The process has ended.
            ValueError: Its answer is none; it has been killed.
        """
        nonce = secrets.token_bytes(NONCE_BYTES)
        try:
            send_request(self._requests, nonce, request, hu)
            return receive_answer(self._answers, nonce, into)
        except (BrokenPipeError, EOFError):
            raise Ended(self.end()) from None
        except (NodeError, RuntimeError):
            raise
        except BaseException:  # an answer that nobody has read would be taken for another's
            self.kill()
            raise

    def finish(self) -> None:
        """Tell the process that there are no more requests."""
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
