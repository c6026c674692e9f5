"""Counters and heartbeats of a running part, which also runs where it cannot count."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.ledger_factory import settings_in

from dicom_node import telemetry, telemetry_files
from dicom_node.processes.observation import (
    certificate_days,
    forget_counts,
    observed,
    with_heartbeat,
)


def test_a_part_beats_whenever_it_asks_whether_to_stop(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with observed("work", settings):
        assert with_heartbeat(lambda: True)()
        assert list(telemetry.newest_beats(settings.metrics_folder)) == ["work"]


def test_a_part_records_its_start_and_stop_in_the_audit_trail(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, audit={"file": tmp_path / "audit.log"})
    with observed("work", settings) as audit:
        assert audit.is_enabled
    told = (tmp_path / "audit.log").read_text(encoding="utf-8")
    assert [code in told for code in ("110120", "110121")] == [True, True]


def test_a_part_runs_when_nothing_can_be_counted(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    settings.storage.mkdir()
    settings.metrics_folder.write_text("no folder")
    with observed("work", settings):
        telemetry.image_received("stored", 1)
    forget_counts(settings)


def test_a_part_that_could_not_count_at_its_start_counts_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that was full at the start left /healthz red for as long as the part ran."""
    monkeypatch.setattr(telemetry_files, "REOPEN_SECONDS", 0.0)
    settings = settings_in(tmp_path)
    settings.storage.mkdir()
    settings.metrics_folder.write_text("no folder")
    with observed("work", settings):
        beating = with_heartbeat(lambda: False)
        beating()
        settings.metrics_folder.unlink()
        beating()
        assert list(telemetry.newest_beats(settings.metrics_folder)) == ["work"]
        telemetry.image_received("stored", 1)
        beating()
    forget_counts(settings)


def test_attempts_to_count_have_an_interval(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    settings.storage.mkdir()
    settings.metrics_folder.write_text("no folder")
    with observed("work", settings):
        settings.metrics_folder.unlink()
        with_heartbeat(lambda: False)()
        assert not settings.metrics_folder.exists()


def test_a_node_without_certificates_has_none_to_watch(tmp_path: Path) -> None:
    assert certificate_days(settings_in(tmp_path)) == {}
