"""The folder of the results: what is left in it, what is not mixed in it, what is sent from it."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from support.ct_factory import make_series
from support.peers import Ports, Process, node_settings, running, wait_until, write_node
from typer.testing import CliRunner, Result

from dicom_node.cli.entry import application
from dicom_node.denoising.result_folder import part_folder


def denoise(*words: str | Path) -> Result:
    return CliRunner().invoke(application(), ["denoise", *map(str, words), "--device", "cpu"])


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def ended_by(number: signal.Signals, folder: Path) -> int:
    """Send a signal to a command when it has written its first slice; return the exit code."""
    make_series(folder / "in", 32, 256, noise_hu=20)
    command = [sys.executable, "-m", "dicom_node.cli", "denoise", folder / "in", folder / "out"]
    with running([*command, "--device", "cpu"], folder / "log", cwd=folder) as process:
        wait_until("the first slice is written", lambda: _parts(folder, process) != [])
        process.popen.send_signal(number)
        process.popen.wait(60)
    return process.popen.returncode


def _parts(folder: Path, process: Process) -> list[Path]:
    assert process.popen.poll() is None, process.output
    return list((folder / "out").glob(".*.part/*.dcm"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_command_that_is_asked_to_end_leaves_nothing(
    number: signal.Signals, tmp_path: Path
) -> None:
    code = ended_by(number, tmp_path)
    assert code == 128 + number
    assert contents(tmp_path / "out") == {}
    assert list((tmp_path / "out").iterdir()) == []
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_what_a_killed_command_left_is_never_sent_and_goes_with_the_next_run(
    tmp_path: Path,
) -> None:
    assert ended_by(signal.SIGKILL, tmp_path) == -signal.SIGKILL
    out = tmp_path / "out"
    assert contents(out)
    config = write_node(tmp_path / "node", node_settings(Ports()))
    sent = CliRunner().invoke(application(), ["send", "pacs", str(out), "-c", str(config)])
    assert "There is no DICOM file" in str(sent.exception)
    make_series(tmp_path / "other", 3, 64)
    assert denoise(tmp_path / "other", out, "--model", "identity").exit_code == 0
    assert sorted(contents(out)) == ["0001.dcm", "0002.dcm", "0003.dcm"]


def test_the_folder_of_a_running_command_is_left_alone(tmp_path: Path) -> None:
    with part_folder(tmp_path) as first, part_folder(tmp_path) as second:
        assert first != second
        assert (first.is_dir(), second.is_dir()) == (True, True)
    assert list(tmp_path.iterdir()) == []


def test_results_of_two_series_are_not_mixed(tmp_path: Path) -> None:
    make_series(tmp_path / "a", 4, 64)
    make_series(tmp_path / "b", 2, 64, study="other")
    out = tmp_path / "out"
    assert denoise(tmp_path / "a", out, "--model", "identity").exit_code == 0
    before = contents(out)
    refused = denoise(tmp_path / "b", out, "--model", "identity")
    assert refused.exit_code == 1
    assert "holds 0001.dcm of another series: write to an empty folder" in refused.stderr
    assert contents(out) == before


def test_another_strength_does_not_replace_a_result_and_the_same_work_does(tmp_path: Path) -> None:
    make_series(tmp_path / "a", 3, 64)
    out = tmp_path / "out"
    assert denoise(tmp_path / "a", out, "--model", "identity").exit_code == 0
    before = contents(out)
    assert denoise(tmp_path / "a", out, "--model", "identity", "--strength", "0.5").exit_code == 1
    assert contents(out) == before
    (out / "0002.dcm").write_bytes(before["0001.dcm"])
    assert denoise(tmp_path / "a", out, "--model", "identity").exit_code == 0
    assert contents(out) == before


def test_control_characters_in_names_do_not_break_lines(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "a\nforged\x07"
    make_series(folder, 2, 64)
    (path, *_) = sorted(folder.glob("*.dcm"))
    damaged = dcmread(path)
    damaged.RescaleSlope = 0
    damaged.save_as(path)
    refused = denoise(tmp_path / "in", tmp_path / "out", "--model", "identity")
    assert refused.exit_code == 1
    assert len(refused.stderr.splitlines()) == 1
    assert "a?forged?" in refused.stderr


def test_series_without_a_number_are_kept_apart(tmp_path: Path) -> None:
    """Even where a folder of the input is named as one of them would be."""
    for name, place in (("a", "in"), ("b", "in"), ("c", "in/series-0-2"), ("d", "in/series-0")):
        folder = tmp_path / place
        for number, path in enumerate(make_series(tmp_path / name, study=name, change=_unnumbered)):
            folder.mkdir(parents=True, exist_ok=True)
            path.rename(folder / f"{name}{number}.dcm")
    ended = denoise(tmp_path / "in", tmp_path / "out", "--model", "identity")
    assert ended.exit_code == 0, ended.output
    folders = {path.parent for path in (tmp_path / "out").rglob("*.dcm")}
    found = [
        {str(dcmread(path).StudyInstanceUID) for path in folder.glob("*.dcm")} for folder in folders
    ]
    assert [len(studies) for studies in found] == [1, 1, 1, 1]
    assert len(set.union(*found)) == 4
    again = denoise(tmp_path / "in", tmp_path / "out", "--model", "identity")
    assert again.exit_code == 0, again.output


def _unnumbered(dataset: Dataset) -> None:
    del dataset.SeriesNumber
