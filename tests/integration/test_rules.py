"""Rules as operators meet them: the commands, the start, and SIGHUP to a running part."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
from support.ct_factory import make_series
from support.peers import (
    Ports,
    children,
    node,
    node_settings,
    run_command,
    running,
    wait_until,
    write_node,
)

GOOD = """
rules:
  - name: thick
    match: {SliceThickness: {at_least: 4}}
    skip: too thick
  - name: scanner
    source_ae: CT1
    denoise: {strength: 0.5, priority: urgent, incomplete: denoise}
"""
BROKEN = "rules:\n- name: thick\n  match: {SliceTickness: {at_least: 4}}\n  skip: too thick\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "rules.yaml").write_text(GOOD)
    return write_node(tmp_path, node_settings(Ports()))


def test_the_rules_are_tried_on_a_folder(config: Path, tmp_path: Path) -> None:
    scan = tmp_path / "scan"
    make_series(scan / "a", slices=7)[3].unlink()
    make_series(scan / "b", description="b", image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    told = run_command("rules", "test", scan, "-c", config)
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines() == [
        "scan/a (6 images): (no rule): denoise by identity, strength 1, to pacs, normal",
        "  not thick: SliceThickness is 2.5, not at least 4",
        "  not scanner: sent by an unknown AE title, not by CT1",
        "  incomplete, so waits and is then skipped: 1 slice is missing between images 3 and 5",
        "scan/b (4 images): (no rule): skip, localizer (scout) images",
    ]


def test_the_answer_can_be_read_by_a_program(config: Path, tmp_path: Path) -> None:
    file = make_series(tmp_path / "scan", slices=1)[0]
    told = run_command("rules", "test", file, "--source-ae", "CT1", "-c", config, "--json")
    (series,) = json.loads(told.stdout)
    assert (series["rule"], series["images"]) == ("scanner", 1)
    assert series["denoise"] == {
        "model": "identity",
        "strength": 0.5,
        "dose_gain": None,
        "target_noise_hu": None,
        "destinations": ["pacs"],
        "priority": "urgent",
        "incomplete": "denoise",
    }
    assert [passed["rule"] for passed in series["passed"]] == ["thick"]


def test_the_rules_are_checked_and_listed(config: Path, tmp_path: Path) -> None:
    listed = json.loads(run_command("rules", "check", "-c", config, "--json").stdout)
    assert [line["rule"] for line in listed] == ["thick", "scanner", "(no rule)"]
    assert listed[0]["when"] == "SliceThickness at least 4"
    (tmp_path / "other.yaml").write_text("rules:\n- {name: all, denoise: {}}\n- skip: never\n")
    told = run_command("rules", "check", "-c", config, "--rules", tmp_path / "other.yaml")
    assert told.stderr == "Rule all matches every series: no rule after it has any effect.\n"
    (tmp_path / "other.yaml").write_text(BROKEN)
    told = run_command("rules", "check", "-c", config, "--rules", tmp_path / "other.yaml")
    assert told.returncode == 2
    assert "other.yaml line 3: rule 1: 'match.SliceTickness' is wrong" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_broken_file_at_start_is_an_error_of_the_configuration(config: Path) -> None:
    (config.parent / "rules.yaml").write_text(BROKEN)
    ended = run_command("serve", "-c", config)
    assert ended.returncode == 2
    assert "(did you mean 'SliceThickness'?)" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_running_part_reads_its_rules_again_on_sighup(config: Path) -> None:
    command = [sys.executable, "-m", "dicom_node.cli", "serve", "-c", config]
    with running(command, config.parent / "serve.log", cwd=config.parent) as serve:
        wait_until("the rules are read", lambda: "housekeeping started" in serve.output)
        (config.parent / "rules.yaml").write_text(BROKEN)
        serve.popen.send_signal(signal.SIGHUP)
        wait_until("the file is refused", lambda: "the old ones stay" in serve.output)
        (config.parent / "rules.yaml").write_text(GOOD)
        serve.popen.send_signal(signal.SIGHUP)
        wait_until("the file is taken", lambda: "rules read" in serve.output)
        assert serve.stop() == 0, serve.output


def test_the_node_hands_sighup_on_and_none_of_its_parts_ends(tmp_path: Path) -> None:
    ports = Ports()
    (tmp_path / "rules.yaml").write_text(GOOD)
    config = write_node(tmp_path, node_settings(ports))
    with node(config, ports.node) as process:
        parts = children(process.popen.pid)
        process.popen.send_signal(signal.SIGHUP)
        wait_until("the rules are read again", lambda: "rules read" in process.output)
        assert children(process.popen.pid) == parts
        assert process.stop() == 0, process.output
