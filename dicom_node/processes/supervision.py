"""Processes that one process starts, watches and restarts: a node its parts, a part its equals."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dicom_node.errors import ConfigurationError
from dicom_node.logs import get_logger

log = get_logger(__name__)

START_SECONDS = 30.0
"""A part that refuses its configuration within this time ends the node: nobody would notice a node
that keeps failing quietly. Later it is restarted, since it ran with this configuration before."""

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 60.0
"""A part that dies again and again is restarted after 1, 2, 4 ... 60 seconds."""

STEADY_SECONDS = 60.0
"""A part that has run this long has recovered: its next restart comes at once again."""

_REFUSED_CONFIGURATION = 2


class Child:
    """A process of the node: started, watched, restarted with growing delay.

    Args:
        words: The command that runs it, without the program.
        config: Configuration file handed on to it.
        drain_seconds: How long it may take to stop before it is killed.
        inherited: File descriptors that it shares.
    """

    def __init__(
        self,
        words: Sequence[str],
        config: Path | None,
        *,
        drain_seconds: float,
        inherited: Sequence[int] = (),
    ) -> None:
        self._part, self._drain_seconds, self._inherited = words[0], drain_seconds, inherited
        self._command = [sys.executable, "-m", "dicom_node.cli", *words, "--supervised"]
        if config is not None:
            self._command += ["--config", str(config)]
        self._process: subprocess.Popen[bytes] | None = None
        self._first_start = self._started = self._next_start = time.monotonic()
        self._delay = FIRST_DELAY_SECONDS

    def look_after(self) -> None:
        """Start the process when it is due; notice when it has died.

        Raises:
            ConfigurationError: It refuses to start.
        """
        now = time.monotonic()
        if self._process is None:
            if now >= self._next_start:
                self._start(now)
        elif self._process.poll() is not None:
            self._plan_restart(now, self._process.returncode)

    def ask_to_reload(self) -> None:
        """Tell the process to read again what can change while it runs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def ask_to_end(self) -> None:
        """Tell the process to drain and end."""
        if self._process is not None:
            self._process.terminate()

    def wait(self) -> None:
        """Wait while the process drains, then kill it."""
        if self._process is None:
            return
        try:
            self._process.wait(self._drain_seconds)
        except subprocess.TimeoutExpired:
            log.warning("part killed: it did not stop", part=self._part)
            self._process.kill()
            self._process.wait()
        self._close_pipe()

    def _start(self, now: float) -> None:
        # Its standard input is how it notices that this process is gone. A session of its own keeps
        # a Ctrl-C in the terminal from reaching it before its turn to stop.
        # A SIGHUP waits (the mask is inherited) until the part can handle it, else it would end it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                start_new_session=True,
                pass_fds=self._inherited,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        self._started = now
        log.info("part started", part=self._part, pid=self._process.pid)

    def _plan_restart(self, now: float, code: int) -> None:
        self._close_pipe()
        self._process = None
        if code == _REFUSED_CONFIGURATION and now - self._first_start < START_SECONDS:
            raise ConfigurationError(
                f"The node cannot start: its part `{self._part}` says why above."
            )
        if now - self._started > STEADY_SECONDS:
            self._delay = FIRST_DELAY_SECONDS
        log.error("part died", part=self._part, code=code, restart_in_seconds=self._delay)
        self._next_start = now + self._delay
        self._delay = min(2 * self._delay, LONGEST_DELAY_SECONDS)

    def _close_pipe(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
