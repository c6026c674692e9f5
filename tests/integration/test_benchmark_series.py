"""The benchmark of a whole series on all its ways, with a small one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.peers import require_program

from benchmarks.machine import REPOSITORY
from benchmarks.series.command import main
from benchmarks.series.parts import Call, covered

SLICES = 3


def test_folder_to_folder_beside_another_checkout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    words = ["--slices", str(SLICES), "--size", "64", "--rounds", "1", "--models", "identity"]
    words += ["--device", "cpu", "--ways", "command", "function", "--json", str(figures)]
    main([*words, "--against", str(REPOSITORY), "--folder", str(tmp_path)])
    report = json.loads(figures.read_text(encoding="utf-8"))
    seen = [(run["way"], run["checkout"]) for run in report["runs"]]
    assert seen == [
        ("command", "this"), ("command", "other"), ("function", "this"), ("function", "other"),
    ]  # fmt: skip
    for run in report["runs"]:
        assert run["slices"] == SLICES
        assert {"scan", "read", "denoise", "guard"} <= set(run["parts"])
        assert run["peak_mib"][run["way"].replace("command", "denoise")] > 50
    assert report["runs"][0]["parts"]["start"] > report["runs"][0]["parts"]["scan"]
    assert set(report["ratios"]) == {f"{w}, identity, 3 slices" for w in ("command", "function")}
    assert "identity" in capsys.readouterr().out


def test_through_a_node(tmp_path: Path) -> None:
    require_program("storescp")
    figures = tmp_path / "figures.json"
    words = ["--slices", str(SLICES), "--size", "64", "--rounds", "1", "--models", "identity"]
    main([*words, "--device", "cpu", "--ways", "node", "--json", str(figures)])
    (run,) = json.loads(figures.read_text(encoding="utf-8"))["runs"]
    assert {"wait", "read", "denoise", "guard", "deliver"} <= set(run["parts"])
    assert {"start", "receive", "work", "deliver", "serve"} <= set(run["peak_mib"])
    assert run["verdict"] in ("ok", "flag")


def test_overlapping_calls_count_once() -> None:
    calls = [Call("read", begin, end, 0.0) for begin, end in ((0, 2), (1, 3), (5, 6))]
    assert covered(calls) == 4.0


def test_a_folder_without_the_product_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--against", str(tmp_path)])
    assert "not a source tree" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--folder", "--series"])
def test_a_folder_that_is_not_there_is_one_sentence(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([option, str(tmp_path / "absent")])
    assert "there is no folder" in capsys.readouterr().err
