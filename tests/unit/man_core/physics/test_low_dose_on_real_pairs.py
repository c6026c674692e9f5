"""Simulated quarter dose against the real one of the same patient (never used in fitting)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydicom import dcmread

from man_core.noise import estimate_noise_and_texture, noise_hu_per_slice, soft_tissue
from man_core.physics.low_dose import insert_noise

PAIR = "validation/L096"
PIXEL_MM = 0.742188
SLICES = 3

pytestmark = pytest.mark.data


def read(folder: Path) -> NDArray[np.float32]:
    datasets = [dcmread(path) for path in sorted(folder.glob("*.dcm"))[:SLICES]]
    slices = [d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in datasets]
    return np.stack(slices).astype(np.float32)


@pytest.fixture(scope="module")
def full(development_data: Path) -> NDArray[np.float32]:
    return read(development_data / PAIR / "full-D45f")


@pytest.fixture(scope="module")
def real(development_data: Path) -> NDArray[np.float32]:
    return read(development_data / PAIR / "quarter-D45f")


@pytest.fixture(scope="module")
def simulated(full: NDArray[np.float32]) -> NDArray[np.float32]:
    found = estimate_noise_and_texture(full)
    low = insert_noise(
        torch.from_numpy(full),
        PIXEL_MM,
        dose=0.25,
        noise_hu=torch.from_numpy(noise_hu_per_slice(full)),
        cutoff=found.cutoff,
        generator=torch.Generator().manual_seed(1),
    )
    return low.numpy()


def lag_one(noise: NDArray[np.float32], tissue: NDArray[np.bool_], *, along_rows: bool) -> float:
    if not along_rows:
        noise, tissue = noise.swapaxes(1, 2), tissue.swapaxes(1, 2)
    both = tissue[:, :, 1:] & tissue[:, :, :-1]
    return float((noise[:, :, 1:] * noise[:, :, :-1])[both].mean() / noise[tissue].var())


def test_the_noise_of_the_image_is_that_of_the_real_quarter_dose(real, simulated) -> None:
    wanted, got = estimate_noise_and_texture(real), estimate_noise_and_texture(simulated)
    assert got.std_hu == pytest.approx(wanted.std_hu, rel=0.10)


def test_each_slice_has_the_noise_of_its_partner(real, simulated) -> None:
    assert noise_hu_per_slice(simulated) == pytest.approx(noise_hu_per_slice(real), rel=0.10)


def test_the_added_noise_has_the_real_strength(full, real, simulated) -> None:
    tissue = soft_tissue(full)
    assert (simulated - full)[tissue].std() == pytest.approx((real - full)[tissue].std(), rel=0.10)


@pytest.mark.parametrize("along_rows", [True, False])
def test_the_added_noise_has_the_real_texture(full, real, simulated, along_rows) -> None:
    tissue = soft_tissue(full)
    wanted = lag_one(real - full, tissue, along_rows=along_rows)
    got = lag_one(simulated - full, tissue, along_rows=along_rows)
    assert got == pytest.approx(wanted, abs=0.1)
