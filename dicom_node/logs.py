"""Logs: one line an event, for people or as JSON, with job and series bound and no identity.

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
"""A field whose name contains one of these may say who somebody is and is dropped."""

QUIET_LIBRARIES = {
    "pynetdicom": "CRITICAL",
    "alembic": "WARNING",
    "apscheduler": "WARNING",
    "uvicorn": "WARNING",
    "pydicom": "ERROR",
    "py.warnings": "ERROR",
}
"""Libraries that tell more than an operator wants, or quote values of a header (pydicom, also
through Python's warnings; pynetdicom, which only encodes and decodes here, with tracebacks)."""

HASH_LENGTH = 12

INNERMOST_FRAMES = 6
"""How many places of an unexpected error go into its log line."""


class LogSettings(Protocol):
    """How log lines look and which are written, as the configuration says it."""

    @property
    def format(self) -> Literal["console", "json"]:
        """For people or for programs."""

    @property
    def level(self) -> Literal["debug", "info", "warning", "error"]:
        """The least important lines that are written."""


def configure_logging(settings: LogSettings, *, process: str, stream: TextIO | None = None) -> None:
    """Set up logging for this process, once, before anything else.

    Args:
        settings: Format and level.
        process: Name of this part of the node, written into every line.
        stream: Where lines go; standard error by default.
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
    """Send the lines of a command that sets up no logging to standard error.

    What it writes to standard output is its answer, which programs may read.
    """
    if not structlog.is_configured():
        structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger: ``log.info("series complete", images=24)``. Hand it no name and no identifier."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger


@contextmanager
def bound(**fields: str | int) -> Iterator[None]:
    """Add fields to every line that this thread writes inside the block."""
    with structlog.contextvars.bound_contextvars(**fields):
        yield


def short_hash(uid: str) -> str:
    """What stands for a UID in logs: enough to recognise a series, nothing to trace a patient."""
    return hashlib.sha256(uid.encode()).hexdigest()[:HASH_LENGTH]


def drop_identity(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Drop every field whose name says that it may hold an identity."""
    for key in [key for key in event if _may_identify(key)]:
        del event[key]
    return event


def where(error: BaseException) -> str:
    """An unexpected error for the log: its kind and place. Its message may quote a header."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[::-1]]
    return f"{type(error).__name__} at {' < '.join(places[:INNERMOST_FRAMES])}"


def reason_of(error: Exception) -> str:
    """Why something went wrong: our own sentence, or kind and place of what nobody foresaw."""
    return str(error) if isinstance(error, NodeError) else where(error)


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
