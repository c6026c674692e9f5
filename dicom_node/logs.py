"""Logging: one line for each event, as text or JSON, with job and series and without identities.

Records of other libraries (pynetdicom, alembic, APScheduler) are rendered the same way.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TextIO

import structlog

from dicom_node.errors import NodeError

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

IDENTITY_WORDS = (
    "patient",
    "birth",
    "accession",
    "physician",
    "operator",
    "institution",
    "address",
    "person",
)
"""A field whose name contains one of these may identify a person and is dropped."""

QUIET_LIBRARIES = {
    "pynetdicom": "CRITICAL",
    "alembic": "WARNING",
    "apscheduler": "ERROR",
    "uvicorn": "WARNING",
    "pydicom": "ERROR",
    "py.warnings": "ERROR",
    "torch": "WARNING",
}
"""Lowest level of libraries that log too much for an operator or quote values of a header: pydicom,
also by Python's warnings, and pynetdicom, which only encodes and decodes here, in tracebacks.
APScheduler warns each second of a sweep that still waits; the health check reports that sweep.
torch logs statistics for its developers when the process ends."""

HASH_LENGTH = 12

MAX_FRAMES = 6
"""Innermost frames of an unexpected error in its log line."""


class LogSettings(Protocol):
    """Format and level of the log, as in the configuration."""

    @property
    def format(self) -> Literal["console", "json"]:
        """Format of the lines: for people or for programs."""

    @property
    def level(self) -> Literal["debug", "info", "warning", "error"]:
        """Lowest level that is written."""


def configure_logging(settings: LogSettings, *, process: str, stream: TextIO | None = None) -> None:
    """Set up logging for this process, once, before anything else.

    Args:
        settings: Format and level.
        process: Name of this part of the node, written into every line.
        stream: Destination; standard error by default.
    """
    shared = _shared_processors(process)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(settings.level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(_formatter(settings, shared, handler.stream))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    for library, level in QUIET_LIBRARIES.items():
        logging.getLogger(library).setLevel(level)
    logging.captureWarnings(True)


def log_to_stderr() -> None:
    """Send the log of a command that configures none to standard error.

    Its standard output is its result, which programs may read.
    """
    if not structlog.is_configured():
        structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


def get_logger(name: str) -> FilteringBoundLogger:
    """Return a logger: ``log.info("series complete", images=24)``. Never pass it an identity."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger


@contextmanager
def bound(**fields: str | int) -> Iterator[None]:
    """Add fields to every line that this thread writes inside the block."""
    with structlog.contextvars.bound_contextvars(**fields):
        yield


def short_hash(uid: str) -> str:
    """Return a hash that replaces a UID in logs: it identifies a series and no patient."""
    return hashlib.sha256(uid.encode()).hexdigest()[:HASH_LENGTH]


def drop_identity(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Drop every field whose name suggests an identity."""
    for key in [key for key in event if _may_identify(key)]:
        del event[key]
    return event


def error_location(error: BaseException) -> str:
    """Describe an unexpected error by type and place, as its message may quote a header."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[::-1]]
    return f"{type(error).__name__} at {' < '.join(places[:MAX_FRAMES])}"


def reason_of(error: Exception) -> str:
    """Return the reason for the log: a `NodeError`'s message, else the error's type and place."""
    return str(error) if isinstance(error, NodeError) else error_location(error)


def _may_identify(key: str) -> bool:
    plain = key.lower().replace("_", "")
    return any(word in plain for word in IDENTITY_WORDS)


def _shared_processors(process: str) -> list[Processor]:
    def add_process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {**event, "process": process}

    return [
        add_process,
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        drop_identity,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _formatter(
    settings: LogSettings, shared: list[Processor], stream: TextIO
) -> structlog.stdlib.ProcessorFormatter:
    renderer: Processor
    if settings.format == "json":
        renderer = structlog.processors.JSONRenderer()
        tracebacks: list[Processor] = [structlog.processors.format_exc_info]
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        tracebacks = []
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *tracebacks,
            renderer,
        ],
    )
