from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from man_core.quality import (
    ABDOMEN_EXAM,
    CHEST_EXAM,
    HEAD_EXAM,
    SOFT_TISSUE,
    change_over_noise,
    dicom_window,
    hu_bias,
    psnr,
    rmse_hu,
    ssim,
    to_unit,
)


@pytest.fixture
def truth() -> NDArray[np.float32]:
    """Two slices of a soft-tissue disc with a bone and a fat insert in air."""
    row, column = np.mgrid[:64, :64] - 31.5
    hu = np.where(row**2 + column**2 < 28**2, 50.0, -1000.0)
    hu[14:28, 20:34] = 700.0
    hu[36:50, 26:40] = -100.0
    return np.stack([hu, hu[::-1]]).astype(np.float32)


def noisy(truth: NDArray[np.float32], noise_hu: float) -> NDArray[np.float32]:
    noise = np.random.default_rng(1).normal(0.0, noise_hu, truth.shape)
    return (truth + noise).astype(np.float32)


def test_equal_images_are_perfect(truth: NDArray[np.float32]) -> None:
    assert psnr(truth, truth, SOFT_TISSUE) == math.inf
    assert ssim(truth, truth, SOFT_TISSUE) == pytest.approx(1.0)
    assert rmse_hu(truth, truth) == 0.0
    assert set(hu_bias(truth, truth).values()) == {0.0}


def test_more_noise_scores_lower(truth: NDArray[np.float32]) -> None:
    steps = [noisy(truth, level) for level in (5.0, 15.0, 45.0)]
    psnrs = [psnr(step, truth, SOFT_TISSUE) for step in steps]
    ssims = [ssim(step, truth, SOFT_TISSUE) for step in steps]
    assert psnrs == sorted(psnrs, reverse=True)
    assert ssims == sorted(ssims, reverse=True)


def test_psnr_of_a_known_error() -> None:
    truth = np.zeros((3, 16, 16))
    assert psnr(truth + 40.0, truth, SOFT_TISSUE) == pytest.approx(20.0)


def test_ssim_agrees_with_scikit_image(truth: NDArray[np.float32]) -> None:
    result = noisy(truth, 30.0)
    expected = [
        structural_similarity(
            to_unit(x, SOFT_TISSUE),
            to_unit(y, SOFT_TISSUE),
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for x, y in zip(result, truth, strict=True)
    ]
    assert ssim(result, truth, SOFT_TISSUE) == pytest.approx(np.mean(expected), abs=1e-9)


def test_a_volume_scores_the_mean_of_its_slices(truth: NDArray[np.float32]) -> None:
    result = noisy(truth, 20.0)
    for metric in (psnr, ssim, rmse_hu):
        alone = [metric(x, y, SOFT_TISSUE) for x, y in zip(result, truth, strict=True)]
        assert metric(result, truth, SOFT_TISSUE) == pytest.approx(np.mean(alone))


def test_bias_is_found_in_its_tissue_only(truth: NDArray[np.float32]) -> None:
    result = np.where(truth == 50.0, truth + 3.0, truth)
    assert hu_bias(result, truth) == pytest.approx(
        {"air": 0.0, "fat": 0.0, "soft tissue": 3.0, "bone": 0.0}, abs=0.2
    )


def test_noise_in_the_truth_makes_no_bias() -> None:
    clean = np.full((4, 96, 96), 105.0, np.float32)
    assert abs(hu_bias(clean, noisy(clean, 20.0))["soft tissue"]) < 0.5


def test_noise_does_not_choose_the_pixels_of_a_class() -> None:
    """Marrow thins out over hundreds of HU: the class's edge lies where most pixels are."""
    random = np.random.default_rng(2)
    clean = 180.0 + 120.0 * np.repeat(np.repeat(random.gamma(1.0, 1.0, (4, 12, 12)), 12, 1), 12, 2)
    clean = clean.astype(np.float32)
    assert abs(hu_bias(clean, noisy(clean, 40.0))["bone"]) < 0.4


def test_padding_is_no_air() -> None:
    truth = np.full((1, 40, 40), -1024.0)
    truth[:, :, 20:] = -1000.0
    result = np.where(truth == -1024.0, -1024.0, -990.0)
    assert hu_bias(result, truth)["air"] == pytest.approx(10.0, abs=1.5)
    assert "air" not in hu_bias(truth[:, :, :16], truth[:, :, :16])


def test_change_is_measured_in_units_of_the_noise() -> None:
    clean = np.full((4, 96, 96), 50.0, np.float32)
    full = noisy(clean, 20.0)
    assert change_over_noise(full, full) == 0.0
    assert change_over_noise(full + 0.3 * (clean - full), full) == pytest.approx(0.3, abs=0.02)
    assert math.isnan(change_over_noise(clean - 1050.0, clean - 1050.0))


def test_rmse_outside_the_window_does_not_count(truth: NDArray[np.float32]) -> None:
    result = np.where(truth == 700.0, 900.0, truth)
    assert rmse_hu(result, truth) > 0.0
    assert rmse_hu(result, truth, SOFT_TISSUE) == 0.0


def test_windows_follow_the_dicom_formula() -> None:
    assert (CHEST_EXAM, ABDOMEN_EXAM, HEAD_EXAM) == ((-1350, 149), (-150, 249), (0, 79))


@given(st.floats(-1000, 1000), st.floats(2, 4000))
def test_a_window_is_one_less_than_its_width_wide(centre: float, width: float) -> None:
    low, high = dicom_window(centre, width)
    assert high - low == pytest.approx(width - 1.0, abs=1e-6)
    assert (low + high) / 2.0 == pytest.approx(centre - 0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("result", "truth", "window"),
    [
        (np.zeros((2, 16, 16)), np.zeros((3, 16, 16)), SOFT_TISSUE),
        (np.zeros(16), np.zeros(16), SOFT_TISSUE),
        (np.zeros((8, 8)), np.zeros((8, 8)), SOFT_TISSUE),
        (np.zeros((16, 16)), np.zeros((16, 16)), (240.0, -160.0)),
    ],
)
def test_what_cannot_be_compared_is_refused(
    result: NDArray[np.float64], truth: NDArray[np.float64], window: tuple[float, float]
) -> None:
    with pytest.raises(ValueError, match=r"cannot be compared|at least 11|must rise"):
        ssim(result, truth, window)


def test_importing_the_metrics_leaves_torch_alone() -> None:
    probe = "import sys, man_core.quality; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
