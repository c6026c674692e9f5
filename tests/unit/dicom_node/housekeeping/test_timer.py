"""A sweep that fails over and over fills no log."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from support.ledger_factory import NodeFixture

from dicom_node.errors import StorageError
from dicom_node.heartbeat import SweepBeats, newest_sweeps
from dicom_node.housekeeping.clock_watch import ClockWatch
from dicom_node.housekeeping.timer import REPEAT_SECONDS, ScheduledSweep, SweepTimer
from dicom_node.logs import configure_logging


def test_the_same_failure_is_logged_once_a_minute(
    node: NodeFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    reasons = ["the ledger is away"] * 121 + ["the disk is full"] * 2

    def sweep(_now: float) -> None:
        raise StorageError(reasons.pop(0))

    configure_logging(node.settings.logging, process="serve")
    watch = ClockWatch(lambda _: None)
    item = ScheduledSweep(sweep, REPEAT_SECONDS / 60)
    timer = SweepTimer((item,), watch, SweepBeats(node.settings.storage / "beats"))
    for _ in range(123):
        timer.run(item)
    logging.getLogger().handlers[0].flush()
    assert capfd.readouterr().err.count("sweep failed") == 3 + 1


def test_a_sweep_beats_although_the_disk_was_full_at_the_start(tmp_path: Path) -> None:
    def sweep(_now: float) -> None:
        raise StorageError("the ledger is away")

    item = ScheduledSweep(sweep, 3600.0)
    (tmp_path / "metrics").write_text("no folder")
    timer = SweepTimer((item,), ClockWatch(lambda _: None), SweepBeats(tmp_path / "metrics/host"))
    timer.start()
    try:
        (tmp_path / "metrics").unlink()
        timer.run(item)
        assert list(newest_sweeps(tmp_path / "metrics")) == ["sweep"]
    finally:
        timer.stop()
