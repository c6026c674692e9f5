"""Supervision of child processes: start, watch, restart with growing delay, stop."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dicom_node.backoff import Backoff
from dicom_node.errors import ConfigurationError
from dicom_node.logs import get_logger

log = get_logger(__name__)

START_SECONDS = 30.0
"""A part that refuses its configuration within this time ends the node, since a node that keeps
failing silently would go unnoticed. Later it is restarted: it has run with this configuration."""

FIRST_DELAY_SECONDS = 1.0
MAX_DELAY_SECONDS = 60.0
"""A part that dies repeatedly is restarted after 1, 2, 4 ... 60 seconds."""

STEADY_SECONDS = 60.0
"""A part that has run this long has recovered: the delay of its restarts begins anew."""

_REFUSED_CONFIGURATION = 2


class ChildProcess:
    """A child process that is restarted with growing delay when it dies.

    Args:
        words: Arguments of `dicom-node` that run it.
        config: Configuration file, passed on to it.
        drain_seconds: Time to stop in before it is killed.
        inherited: File descriptors that it inherits.
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
        self._command = [sys.executable, "-P", "-m", "dicom_node.cli", *words, "--supervised"]
        if config is not None:
            self._command += ["--config", str(config)]
        self._process: subprocess.Popen[bytes] | None = None
        self._first_start = self._started = self._next_start = time.monotonic()
        self._backoff = Backoff(FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS)

    def check(self) -> None:
        """Start the process when it is due; plan a restart when it has died.

        Raises:
            ConfigurationError: It refuses to start.
        """
        now = time.monotonic()
        if self._process is None:
            if now >= self._next_start:
                self._start(now)
        elif self._process.poll() is not None:
            self._plan_restart(now, self._process.returncode)

    def reload(self) -> None:
        """Ask the process to reload what can change while it runs (SIGHUP)."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def terminate(self) -> None:
        """Ask the process to drain and end (SIGTERM)."""
        if self._process is not None:
            self._process.terminate()

    def wait(self) -> None:
        """Wait for the process to drain; kill it when it does not end in time."""
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
        # By its standard input it notices that this process has ended. A session of its own keeps
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
            self._backoff.reset()
        delay = self._backoff.next_seconds()
        log.error("part died", part=self._part, code=code, restart_in_seconds=delay)
        self._next_start = now + delay

    def _close_pipe(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
