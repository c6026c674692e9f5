"""The folder of the results: what is left in it, what is not mixed in it, what is sent from it."""

from __future__ import annotations

import fcntl
import os
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
from dicom_node.denoising.series import denoise_series
from dicom_node.errors import InputError
from man_core import load_denoiser


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


def test_a_series_that_comes_while_another_is_denoised_is_not_mixed_with_it(tmp_path: Path) -> None:
    first = make_series(tmp_path / "a", 4, 64)
    second = make_series(tmp_path / "b", 2, 64, study="other")
    out, identity = tmp_path / "out", load_denoiser("identity")
    before: list[dict[str, bytes]] = []

    def other_run(done: int, total: int) -> None:
        if done == total:
            files = denoise_series(second, out, identity).files
            before.append({path.name: path.read_bytes() for path in files})

    with pytest.raises(InputError, match=r"holds 0001\.dcm of another series: write to an empty"):
        denoise_series(first, out, identity, on_progress=other_run)
    assert before == [contents(out)]


def test_the_folder_is_locked_while_results_move_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = make_series(tmp_path / "in", 3, 64), tmp_path / "out"
    replace, refused = Path.replace, []

    def replace_and_try(path: Path, target: Path) -> Path:
        if target.parent == out:
            descriptor = os.open(out, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                refused.append(target.name)
            finally:
                os.close(descriptor)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", replace_and_try)
    denoise_series(source, out, load_denoiser("identity"))
    assert refused == ["0001.dcm", "0002.dcm", "0003.dcm"]


@pytest.mark.parametrize("name", ["IM0001", "x.DCM", "x.dicom"])
def test_images_of_another_series_are_seen_whatever_their_names(tmp_path: Path, name: str) -> None:
    make_series(tmp_path / "a", 2, 64)
    (other, *_) = make_series(tmp_path / "b", 2, 64, study="other")
    out = tmp_path / "out"
    out.mkdir()
    other.rename(out / name)
    before = contents(out)
    refused = denoise(tmp_path / "a", out, "--model", "identity")
    assert refused.exit_code == 1
    assert f"holds {name} of another series: write to an empty folder" in refused.stderr
    assert contents(out) == before


def test_files_that_are_no_images_may_stay_beside_results(tmp_path: Path) -> None:
    make_series(tmp_path / "a", 2, 64)
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("kept")
    assert denoise(tmp_path / "a", out, "--model", "identity").exit_code == 0
    assert sorted(contents(out)) == ["0001.dcm", "0002.dcm", "notes.txt"]


def test_an_image_that_gets_another_name_is_not_there_twice(tmp_path: Path) -> None:
    """Images without instance numbers are named by place, which others before them change."""
    source = make_series(tmp_path / "in", 5, 64, change=_without_instance_number)
    out = tmp_path / "out"
    assert denoise(tmp_path / "in", out, "--model", "identity").exit_code == 0
    for path in source[:2]:
        path.unlink()
    assert denoise(tmp_path / "in", out, "--model", "identity").exit_code == 0
    assert denoise(tmp_path / "in", tmp_path / "fresh", "--model", "identity").exit_code == 0
    assert contents(out) == contents(tmp_path / "fresh")


def test_results_of_images_that_are_no_longer_given_stay(tmp_path: Path) -> None:
    source = make_series(tmp_path / "in", 5, 64)
    out = tmp_path / "out"
    assert denoise(tmp_path / "in", out, "--model", "identity").exit_code == 0
    before = contents(out)
    for path in source[:2]:
        path.unlink()
    assert denoise(tmp_path / "in", out, "--model", "identity").exit_code == 0
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


def _without_instance_number(dataset: Dataset) -> None:
    del dataset.InstanceNumber
