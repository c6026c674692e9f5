"""Logs: both formats, foreign records, bound context, and no identity."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest
import structlog

from dicom_node.logs import bound, configure_logging, get_logger, short_hash
from dicom_node.settings import LoggingSettings


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def configured(log_format: str = "json", level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    settings = LoggingSettings.model_validate({"format": log_format, "level": level})
    configure_logging(settings, process="worker", stream=stream)
    return stream


def test_a_line_contains_its_process_job_and_series() -> None:
    stream = configured()
    with bound(job=3, series=short_hash("1.2.3")):
        get_logger("node").info("denoising", images=24)
    (line,) = lines(stream)
    assert line.pop("timestamp")
    assert line == {
        "event": "denoising", "images": 24, "job": 3, "series": short_hash("1.2.3"),
        "process": "worker", "level": "info", "logger": "node",
    }  # fmt: skip


def test_records_of_libraries_look_the_same() -> None:
    stream = configured()
    with bound(job=3):
        logging.getLogger("alembic.runtime").warning("migration %s", "skipped")
    (line,) = lines(stream)
    assert (line["event"], line["job"], line["level"]) == ("migration skipped", 3, "warning")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_identity_is_dropped(log_format: str) -> None:
    stream = configured(log_format)
    get_logger("node").info("stored", patient_name="CANARY", PatientID="CANARY", images=1)
    logging.getLogger("other").warning("stored", extra={"accession_number": "CANARY"})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("Invalid value 'CANARY' for VR DA", stacklevel=1)
    logging.getLogger("pydicom").warning("CANARY")
    logging.getLogger("pynetdicom.dul").error("CANARY")
    assert "stored" in stream.getvalue()
    assert "CANARY" not in stream.getvalue()


def test_statistics_that_torch_logs_at_the_end_are_dropped() -> None:
    configured()
    at_exit = logging.getLogger("torch._subclasses.fake_tensor")
    assert not at_exit.isEnabledFor(logging.INFO)
    assert at_exit.isEnabledFor(logging.WARNING)


def test_the_level_is_kept() -> None:
    stream = configured(level="warning")
    get_logger("node").info("quiet")
    get_logger("node").warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_the_console_is_for_people() -> None:
    stream = configured("console")
    get_logger("node").warning("series skipped", reason="localizer")
    text = stream.getvalue()
    assert "series skipped" in text
    assert "reason=localizer" in text
    assert "\x1b" not in text
