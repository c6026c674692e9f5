"""Strips show a lesion where it is, and a real pair with its methods side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.ct_factory import make_series

from man_core.physics.phantom.series import AnatomyName
from man_core.quality import SOFT_TISSUE
from training.evaluate.methods import CLASSICAL, untouched
from training.tables.published_figures import draw_pair
from training.tables.strips import Region, lesion_case

PNG = b"\x89PNG"


@pytest.mark.parametrize(
    ("anatomy", "hu", "around"), [("abdomen", 96.0, 124.0), ("chest", 35.0, -850.0)]
)
def test_the_zoom_is_centred_on_a_lesion(anatomy: AnatomyName, hu: float, around: float) -> None:
    case, region = lesion_case(anatomy, size=256)
    assert case.full.shape == (1, 256, 256)
    core = case.full[0, region.row - 1 : region.row + 2, region.column - 1 : region.column + 2]
    assert abs(core.mean() - hu) < abs(core.mean() - around)
    zoom = case.full[0][region.of(case.full[0])]
    assert zoom.shape == (51, 51)


def test_a_region_at_the_edge_is_moved_inside() -> None:
    image = np.arange(100.0).reshape(10, 10)
    assert np.array_equal(image[Region(0, 9).of(image)], image[:2, 8:])
    assert image[Region(99, 99).of(image)].shape == (2, 2)


def test_a_real_pair_is_drawn_with_its_methods_side_by_side(tmp_path: Path) -> None:
    make_series(tmp_path / "low", 1, 64, study="a", series_number=2, noise_hu=40, seed=1)
    make_series(tmp_path / "full", 1, 64, study="a", series_number=1, noise_hu=10)
    methods = [untouched(), CLASSICAL["best Gaussian"]]
    pair = (tmp_path / "low", tmp_path / "full", 0.25)
    drawn = draw_pair(*pair, methods, SOFT_TISSUE, tmp_path / "out", Region(20, 30))
    assert [path.name for path in drawn] == ["low-1.png", "low-1-strip.png"]
    assert all(path.read_bytes().startswith(PNG) for path in drawn)
