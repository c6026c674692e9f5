"""The checks for a GPU run on a CPU with tiny sizes, so that no line of them is untried."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu_check import command
from benchmarks.gpu_check.part import Bench, Figure, Outcome
from benchmarks.gpu_check.targets import (
    ALONE,
    DDPM,
    FILES_TO_FILES,
    FIT_STEP,
    GUARD,
    HU_TO_HU,
    judged,
)

TRIAL = ("--device", "cpu", "--preset", "tiny")
AMPLE = ("--seconds", "3600")  # a busy machine takes its time, and no part may be cut


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All parts, as on a machine with a GPU."""
    folder, threads = tmp_path_factory.mktemp("check"), torch.get_num_threads()
    files = ("--json", str(folder / "check.json"), "--markdown", str(folder / "check.md"))
    assert command.main([*TRIAL, *AMPLE, "--threads", "1", *files]) == 0
    torch.set_num_threads(threads)
    table = (folder / "check.md").read_text(encoding="utf-8")
    report: dict[str, Any] = json.loads((folder / "check.json").read_text(encoding="utf-8"))
    assert {part["name"] for part in report["parts"] if f"**{part['name']}**" in table} == {
        part.name for part in command.PARTS
    }
    return report


def named(report: dict[str, Any], part: str) -> dict[str, Any]:
    (found,) = (one for one in report["parts"] if one["name"] == part)
    return {figure["name"]: figure for figure in found["figures"]}


def test_every_part_is_done_and_no_check_fails(report: dict[str, Any]) -> None:
    states = {part["name"]: (part["state"], part["reason"]) for part in report["parts"]}
    assert states == {part.name: ("done", "") for part in command.PARTS}
    figures = [figure for part in report["parts"] for figure in part["figures"]]
    assert [figure for figure in figures if figure["passed"] is False] == []
    assert sum(figure["passed"] is True for figure in figures) > 20


def test_a_cpu_agrees_with_itself(report: dict[str, Any]) -> None:
    figures = named(report, "agreement")
    assert figures["MAN, float32: maximum"]["value"] == 0.0
    assert figures["MAN, bfloat16: maximum"]["value"] > 0.0


def test_the_batch_is_halved_when_memory_is_short(report: dict[str, Any]) -> None:
    figures = named(report, "memory")
    assert figures["out of memory: batch halved"]["value"] == "yes"
    assert figures["out of memory: batch halved"]["passed"]
    assert figures["out of memory: as with such batches"]["passed"]


def test_a_worker_ends_with_a_device_fault(report: dict[str, Any]) -> None:
    figures = named(report, "faults")
    assert figures["error of the worker"]["value"] == "DeviceFault"
    assert figures["exit code of the worker"]["value"] == 1
    assert figures["derived files"]["value"] == 0


def test_bars_are_not_judged_without_a_gpu(report: dict[str, Any]) -> None:
    assert {one["verdict"] for one in report["targets"]} == {"not at hand"}
    assert {one["reason"] for one in report["targets"]} == {"no GPU"}
    assert report["device_name"] == "cpu"
    assert len(report["weights_sha256"]) == 64


def test_bars_are_judged_by_their_figures() -> None:
    values = {HU_TO_HU: 0.9, ALONE: 0.5, GUARD: 0.8, FILES_TO_FILES: 3.0, DDPM: 4600.0}
    outcomes = [Outcome("all", figures=[Figure(name, value) for name, value in values.items()])]
    found = {one.target: one for one in judged(outcomes, "NVIDIA H200", "full")}
    assert [one.verdict for one in found.values()] == [
        "pass", "missed", "pass", "pass", "not at hand",
    ]  # fmt: skip
    assert found["step of 64 crops of 160² at most 45 ms"].reason == f"not measured: {FIT_STEP}"
    other = judged(outcomes, "NVIDIA L4", "full")
    assert [one.verdict for one in other].count("not at hand") == 3


def test_figures_with_bars_are_measured(report: dict[str, Any]) -> None:
    figures = {name for part in report["parts"] for name in named(report, part["name"])}
    assert {HU_TO_HU, ALONE, GUARD, FILES_TO_FILES, DDPM, FIT_STEP} <= figures


def test_a_folder_that_is_not_there_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main([*TRIAL, "--folder", str(tmp_path / "absent")])
    assert "there is no folder" in capsys.readouterr().err


def test_a_part_without_time_is_cut() -> None:
    options = command._parser().parse_args([*TRIAL, "--seconds", "0", "--only", "timing"])
    (outcome,) = command._outcomes(options, command.choose_device("cpu"))
    assert (outcome.state, outcome.figures) == ("cut", [])


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (ModuleNotFoundError("No module named 'absent'", name="absent.part"), "not run", 0),
        (ModuleNotFoundError("No module named 'man_core.absent'", name="man_core.a"), "failed", 1),
        (RuntimeError("wrong"), "failed", 1),
    ],
)
def test_a_part_that_fails_keeps_its_figures(
    error: Exception, state: str, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def figures(_bench: Bench) -> Iterator[Figure]:
        yield Figure("first", 1.0)
        raise error

    memory = importlib.import_module("benchmarks.gpu_check.memory")
    monkeypatch.setattr(memory, "figures", figures)
    words = [*TRIAL, *AMPLE, "--only", "memory", "--json", str(tmp_path / "check.json")]
    assert command.main(words) == code
    (part,) = json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))["parts"]
    assert (part["state"], [one["name"] for one in part["figures"]]) == (state, ["first"])
