from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.denoise import main
from benchmarks.networks import MAN, RED_CNN


def test_networks_are_compared_on_one_device(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    words = ["--device", "cpu", "--size", "64", "--rounds", "1", "--only", MAN, RED_CNN]
    main([*words, "--json", str(figures)])
    report = json.loads(figures.read_text(encoding="utf-8"))
    assert [one["name"] for one in report["networks"]] == [MAN, RED_CNN]
    assert [one["network"] for one in report["runs"]] == [MAN, RED_CNN]
    assert min(run["seconds"] for run in report["runs"]) > 0
    ratios = {name: one["multiply-adds"] for name, one in report["ratios"].items()}
    assert ratios[MAN] == 1.0
    assert 5.0 < ratios[RED_CNN] < 30.0
    assert {"device", "threads", "torch", "precision", "cpu"} <= set(report["hardware"])
    assert RED_CNN in capsys.readouterr().out


def test_a_device_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--device", "cuda:9"])
    assert "not present" in capsys.readouterr().err
