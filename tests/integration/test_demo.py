"""The demo, small: a patient goes over the whole line, and the numbers and pictures are there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dicom_node.demo.measure import Row, beats
from dicom_node.demo.run import DemoOptions, run_demo
from dicom_node.errors import ConfigurationError


def test_the_series_comes_back_measured_and_drawn(tmp_path: Path) -> None:
    said: list[str] = []
    out = tmp_path / "demo"
    options = DemoOptions(out=out, slices=3, size=96, model="identity")
    result = run_demo(options, said.append)
    low, denoised, truth = result.rows
    assert denoised.psnr_db == pytest.approx(low.psnr_db, abs=0.01)
    assert truth.noise_hu < low.noise_hu
    assert not result.good  # a model that changes nothing beats nothing
    assert min(vars(result.stages).values()) >= 0
    assert len(list((out / "denoised").iterdir())) == 3
    assert all(path.stat().st_size > 10_000 for path in result.pictures)
    assert json.loads((out / "report.json").read_text()) == result.to_dict()
    assert "denoising" in said


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"letter\.txt"):
        run_demo(DemoOptions(out=tmp_path), lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def row(psnr_db: float, ssim: float, lpips: float | None) -> Row:
    return Row("", 10.0, psnr_db, ssim, lpips, {})


@pytest.mark.parametrize(
    ("after", "better"),
    [
        (row(30.0, 0.9, 0.1), True),
        (row(26.0, 0.9, 0.1), False),
        (row(30.0, 0.7, 0.1), False),
        (row(30.0, 0.9, 0.3), False),
        (row(30.0, 0.9, None), True),
    ],
)
def test_better_means_better_by_every_measure(after: Row, better: bool) -> None:
    assert beats(after, row(27.0, 0.8, 0.2)) is better
