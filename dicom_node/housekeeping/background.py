"""Sweeps that wait for other systems, each in its own thread."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

from dicom_node.logs import get_logger, reason_of

log = get_logger(__name__)

Sweep = Callable[[float], None]


def in_background(sweep: Sweep) -> Sweep:
    """Return a sweep that runs in the background, never more than once at a time.

    A mail server or webhook that hangs then delays neither the other sweeps nor the end of the
    process.
    """
    running: list[threading.Thread] = []

    @functools.wraps(sweep)
    def begin(now: float) -> None:
        if any(thread.is_alive() for thread in running):
            return
        running[:] = [threading.Thread(target=_run, args=(sweep, now), name="sweep", daemon=True)]
        running[0].start()

    return begin


def _run(sweep: Sweep, now: float) -> None:
    try:
        sweep(now)
    except Exception as error:
        log.error("sweep failed", sweep=sweep.__name__, reason=reason_of(error))
