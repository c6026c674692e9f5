"""Telemetry: what processes count adds up, whoever is killed in between."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from dicom_node import telemetry


@pytest.fixture(autouse=True)
def _closed_at_the_end() -> Iterator[None]:
    yield
    telemetry.close_telemetry()


def value(folder: Path, name: str, **labels: str) -> float | None:
    registry = CollectorRegistry()
    telemetry.collect_into(registry, folder)
    return registry.get_sample_value(f"dicom_node_{name}", labels)


def test_nothing_is_counted_before_it_is_opened(tmp_path: Path) -> None:
    telemetry.image_received("stored", 100)
    telemetry.image_refused(0xA700)
    telemetry.association("accepted")
    telemetry.image_sent("pacs", True, 100)
    telemetry.stage_seconds("denoise", 1.0)
    telemetry.audit_lost(1)
    telemetry.beat()
    assert value(tmp_path, "received_bytes_total") is None
    assert telemetry.newest_beats(tmp_path) == {}


def test_what_is_counted_can_be_read(tmp_path: Path) -> None:
    telemetry.open_telemetry(tmp_path, process="receive")
    telemetry.image_received("stored", 100)
    telemetry.image_received("stored", 50)
    telemetry.image_refused(0xA700)
    telemetry.association("rejected")
    telemetry.image_sent("pacs", True, 30)
    telemetry.image_sent("pacs", False, 30)
    telemetry.audit_lost(2)
    assert value(tmp_path, "images_received_total", outcome="stored") == 2
    assert value(tmp_path, "received_bytes_total") == 150
    assert value(tmp_path, "images_refused_total", status="0xA700") == 1
    assert value(tmp_path, "associations_total", outcome="rejected") == 1
    assert value(tmp_path, "images_sent_total", destination="pacs", outcome="stored") == 1
    assert value(tmp_path, "images_sent_total", destination="pacs", outcome="failed") == 1
    assert value(tmp_path, "sent_bytes_total", destination="pacs") == 30
    assert value(tmp_path, "audit_lost_total") == 2


def test_counters_are_there_before_their_first_event(tmp_path: Path) -> None:
    telemetry.open_telemetry(tmp_path, process="receive")
    assert value(tmp_path, "images_received_total", outcome="quarantined") == 0
    assert value(tmp_path, "stage_seconds_count", stage="send") == 0


def test_seconds_go_into_buckets(tmp_path: Path) -> None:
    telemetry.open_telemetry(tmp_path, process="work")
    for seconds in (0.05, 3.0, 7200.0):
        telemetry.stage_seconds("denoise", seconds)
    assert value(tmp_path, "stage_seconds_count", stage="denoise") == 3
    assert value(tmp_path, "stage_seconds_sum", stage="denoise") == pytest.approx(7203.05)
    assert value(tmp_path, "stage_seconds_bucket", stage="denoise", le="5.0") == 2
    assert value(tmp_path, "stage_seconds_bucket", stage="denoise", le="1800.0") == 2
    assert value(tmp_path, "stage_seconds_bucket", stage="denoise", le="+Inf") == 3


COUNTING = """
import os, signal, sys
from pathlib import Path
from dicom_node import telemetry
telemetry.open_telemetry(Path(sys.argv[1]), process="work")
telemetry.image_received("stored", 1)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_loses_nothing_and_leaves_one_file(tmp_path: Path) -> None:
    for _ in range(3):
        subprocess.run([sys.executable, "-c", COUNTING, str(tmp_path)], check=False, timeout=60)
    assert value(tmp_path, "images_received_total", outcome="stored") == 3
    assert len(list(tmp_path.rglob("counter_*.db"))) == 1


def test_two_processes_of_one_name_do_not_share_a_file(tmp_path: Path) -> None:
    telemetry.open_telemetry(tmp_path, process="work")
    telemetry.image_received("stored", 1)
    subprocess.run([sys.executable, "-c", COUNTING, str(tmp_path)], check=False, timeout=60)
    telemetry.image_received("stored", 1)
    assert value(tmp_path, "images_received_total", outcome="stored") == 3
    assert len(list(tmp_path.rglob("counter_*.db"))) == 2


def test_a_damaged_file_begins_at_zero(tmp_path: Path) -> None:
    telemetry.open_telemetry(tmp_path, process="work")
    telemetry.close_telemetry()
    for path in tmp_path.rglob("*.db"):
        path.write_bytes(b"\xff" * 100)
    telemetry.open_telemetry(tmp_path, process="work")
    telemetry.image_received("stored", 1)
    assert value(tmp_path, "images_received_total", outcome="stored") == 1


def test_a_damaged_file_of_another_process_hides_nothing(tmp_path: Path) -> None:
    telemetry.open_telemetry(tmp_path, process="work")
    telemetry.image_received("stored", 1)
    (telemetry.folder_of_host(tmp_path) / "counter_receive-0.db").write_bytes(b"\xff" * 100)
    (telemetry.folder_of_host(tmp_path) / "counter_deliver-0.db").write_bytes(b"")
    assert value(tmp_path, "images_received_total", outcome="stored") == 1


def test_a_node_begins_at_zero(tmp_path: Path) -> None:
    telemetry.open_telemetry(tmp_path, process="work")
    telemetry.image_received("stored", 1)
    telemetry.close_telemetry()
    telemetry.clear_telemetry(tmp_path)
    telemetry.open_telemetry(tmp_path, process="work")
    assert value(tmp_path, "images_received_total", outcome="stored") == 0


def test_a_process_leaves_signs_of_life(tmp_path: Path) -> None:
    begin = time.time() - 1.0
    telemetry.open_telemetry(tmp_path, process="receive")
    telemetry.beat()
    beats = telemetry.newest_beats(tmp_path)
    assert list(beats) == ["receive"]
    assert begin <= beats["receive"] <= time.time() + 1.0
