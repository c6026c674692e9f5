"""The parts of the node: which processes it consists of, and in which order they start and stop.

Each part is a process of its own, started and watched by `dicom_node.processes.node`, or alone by
the command of its name.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dicom_node.audit import Audit
from dicom_node.logs import get_logger
from dicom_node.processes.observation import (
    certificate_days,
    forget_sweeps,
    observed,
    with_heartbeat,
)
from dicom_node.processes.startup import exit_when_stopped
from dicom_node.settings import Settings
from dicom_node.settings.exposure import exposures

log = get_logger(__name__)

ShouldStop = Callable[[], bool]

WORKER_NICENESS = 10


@dataclass(frozen=True)
class PartContext:
    """Everything that a part is given when it runs.

    Attributes:
        settings: The configuration.
        audit: The audit trail.
        should_stop: Asked several times a second; each call is a heartbeat.
        should_reload: Whether to read the rules again.
        listener: For one of several receivers: the listening socket that they share.
    """

    settings: Settings
    audit: Audit
    should_stop: ShouldStop
    should_reload: Callable[[], bool]
    listener: socket.socket | None


@dataclass(frozen=True)
class Part:
    """One process of the node.

    Attributes:
        command: The command that runs it alone.
        run: Runs it in this process until it is told to stop.
        drain_seconds: Time to stop in before it is killed.
    """

    command: str
    run: Callable[[PartContext], None]
    drain_seconds: float


def run_part(
    command: str,
    settings: Settings,
    *,
    should_stop: ShouldStop,
    should_reload: Callable[[], bool] = lambda: False,
    listener: socket.socket | None = None,
) -> None:
    """Run one part of the node in this process until it is told to stop.

    Args:
        command: Name of the part.
        settings: The configuration.
        should_stop: Asked several times a second.
        should_reload: Whether to read the rules again.
        listener: For one of several receivers: the listening socket that they share.

    Raises:
        NodeError: The part cannot start.
    """
    (part,) = (part for part in START_ORDER if part.command == command)
    with observed(command, settings) as audit:
        beating = with_heartbeat(should_stop)
        part.run(PartContext(settings, audit, beating, should_reload, listener))


# Each part imports only what it needs: the receiver carries no torch.


def _work(context: PartContext) -> None:
    _lower_priority()
    with exit_when_stopped(context.should_stop):
        from dicom_node.denoising.models import ModelDenoise
        from dicom_node.denoising.worker import run_worker

        denoise = ModelDenoise(context.settings)
    run_worker(context.settings, denoise, should_stop=context.should_stop)


def _deliver(context: PartContext) -> None:
    from dicom_node.sending import run_sender
    from dicom_node.sending.routes import PeerTransport

    run_sender(
        context.settings,
        transport=PeerTransport(context.settings),
        should_stop=context.should_stop,
        audit=context.audit,
    )


def _serve(context: PartContext) -> None:
    from dicom_node.housekeeping import run_housekeeping
    from dicom_node.web import web_served

    settings = context.settings
    forget_sweeps(settings)
    days = partial(certificate_days, settings)
    with web_served(settings, certificate_days=days, should_stop=context.should_stop):
        run_housekeeping(
            settings,
            should_stop=context.should_stop,
            should_reload=context.should_reload,
            audit=context.audit,
        )


def _receive(context: PartContext) -> None:
    from dicom_node.receiving.process import run_receiver

    if context.listener is None:
        log_exposures(context.settings)
    run_receiver(
        context.settings,
        should_stop=context.should_stop,
        audit=context.audit,
        listener=context.listener,
    )


START_ORDER = (
    Part("work", _work, drain_seconds=60.0),
    Part("deliver", _deliver, drain_seconds=30.0),
    Part("serve", _serve, drain_seconds=15.0),
    Part("receive", _receive, drain_seconds=45.0),
)
"""All parts in their start order. The receiver starts last and stops first, so that no image is
accepted that the others are not there to handle; then the others stop together."""


def log_exposures(settings: Settings) -> None:
    """Log what is open to others; the receiver does it, wherever it runs."""
    for exposure in exposures(settings):
        log.warning("open to others", reason=exposure)


def _lower_priority() -> None:
    """Leave the processors to the receiver: an image waits for its answer, a job does not."""
    os.nice(WORKER_NICENESS)
    with suppress(OSError):  # where the kernel shares time by session first, as desktops do
        Path("/proc/self/autogroup").write_text(f"{WORKER_NICENESS}\n", encoding="ascii")
