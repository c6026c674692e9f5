"""BM3D: transforms, noise removal with a known spectrum, and CT through the registry.

On the twelve images with published figures the differences are in decision 0021; scikit-image
ships none of them, so that here its own images stand in, with the result measured then.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage import data
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from man_core import Condition, Volume, denoise_volume, list_models, load_denoiser, phantom_series
from man_core.denoisers.bm3d_filter import bm3d
from man_core.denoisers.bm3d_matching import match_blocks, with_whole_steps
from man_core.denoisers.bm3d_transforms import (
    BLOCK_PIXELS,
    coefficient_variances,
    dct_blocks,
    haar,
    wavelet_blocks,
)
from man_core.noise_texture import image_power

SIGMA = 25.0
WHITE = torch.full((32, 32), SIGMA**2)

GOLDEN_PSNR_DB = 28.91
"""Measured when all figures of decision 0021 were."""


def camera() -> torch.Tensor:
    return torch.from_numpy(data.camera()[100:228, 160:288].astype(np.float32))


def white_noise(shape: torch.Size | tuple[int, ...], seed: int = 0) -> torch.Tensor:
    noise = np.random.default_rng(seed).normal(0.0, SIGMA, shape)
    return torch.from_numpy(noise.astype(np.float32))


def correlated_noise(size: int, cutoff: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noise of a cutoff [row, column] and its power spectrum."""
    power = image_power(size, size, cutoff)
    power = power * (SIGMA**2 / power.mean())
    spectrum = np.fft.fft2(np.random.default_rng(1).normal(size=(size, size)))
    noise = np.fft.ifft2(spectrum * np.sqrt(power)).real
    return torch.from_numpy(noise.astype(np.float32)), torch.from_numpy(power)


def psnr(result: torch.Tensor, truth: torch.Tensor) -> float:
    return 10.0 * math.log10(255.0**2 / float((result.clip(0, 255) - truth).square().mean()))


@pytest.mark.parametrize("blocks", [dct_blocks, wavelet_blocks])
def test_transforms_of_blocks_have_an_inverse_and_start_with_the_mean(blocks: object) -> None:
    forward, inverse = blocks()  # type: ignore[operator]
    assert torch.allclose(inverse @ forward, torch.eye(BLOCK_PIXELS**2), atol=1e-5)
    constant = forward @ torch.ones(BLOCK_PIXELS**2)
    assert float(constant[0]) == pytest.approx(BLOCK_PIXELS, rel=1e-5)
    assert float(constant[1:].abs().max()) < 1e-5


@pytest.mark.parametrize("blocks", [1, 2, 16, 32])
def test_the_haar_transform_is_orthonormal(blocks: int) -> None:
    matrix = haar(blocks)
    assert torch.allclose(matrix @ matrix.T, torch.eye(blocks), atol=1e-6)
    assert torch.allclose(matrix[0], torch.full((blocks,), blocks**-0.5))


def test_variances_of_coefficients_are_those_of_noise_with_that_spectrum() -> None:
    forward, _ = dct_blocks()
    assert torch.allclose(coefficient_variances(forward, WHITE), torch.full((64,), SIGMA**2))
    noise, power = correlated_noise(512, 1.1)
    windows = noise.unfold(0, BLOCK_PIXELS, BLOCK_PIXELS).unfold(1, BLOCK_PIXELS, BLOCK_PIXELS)
    seen = (windows.reshape(-1, BLOCK_PIXELS**2) @ forward.T).square().mean(dim=0)
    expected = coefficient_variances(forward, power)
    strong = expected > 0.05 * SIGMA**2
    assert torch.allclose(seen[strong], expected[strong], rtol=0.15)
    assert float(expected.max() / expected.min()) > 10.0


def test_matches_are_the_blocks_that_repeat() -> None:
    tile = white_noise((11, 11))
    groups = match_blocks(with_whole_steps(tile.repeat(4, 4)), 8, 1.0)
    assert groups.blocks.shape[1] == 8
    assert (int(groups.sizes.min()), int(groups.sizes.max())) == (4, 8)
    nearest, width = groups.blocks[:, :4], 44 - BLOCK_PIXELS + 1
    row, column = nearest // width, nearest % width
    assert int(((row - row[:, :1]) % 11).abs().max()) == 0
    assert int(((column - column[:, :1]) % 11).abs().max()) == 0
    alone = match_blocks(with_whole_steps(white_noise((32, 32))), 8, 1.0)
    assert int(alone.sizes.max()) == 1


def test_white_noise_goes_as_measured_and_further_than_by_other_classical_methods() -> None:
    truth = camera()
    noisy = truth + white_noise(truth.shape)
    found = psnr(bm3d(noisy, WHITE), truth)
    image = noisy.numpy().astype(np.float64)
    means = [
        denoise_nl_means(image, 5, 10, h=strength * SIGMA, sigma=SIGMA, fast_mode=False)
        for strength in (0.5, 0.7, 0.9)
    ]
    variations = [denoise_tv_chambolle(image, weight=weight) for weight in (15, 20, 25, 30)]
    best = max(psnr(torch.from_numpy(one).float(), truth) for one in (*means, *variations))
    assert found > best + 0.3
    assert found == pytest.approx(GOLDEN_PSNR_DB, abs=0.1)


def test_the_spectrum_of_correlated_noise_is_used() -> None:
    truth = camera()
    noise, power = correlated_noise(len(truth), 0.9)
    with_spectrum = psnr(bm3d(truth + noise, power), truth)
    as_if_white = psnr(bm3d(truth + noise, torch.full_like(power, float(power.mean()))), truth)
    assert with_spectrum > as_if_white + 0.5


@pytest.mark.parametrize("shape", [(8, 8), (9, 31), (40, 26)])
def test_images_of_any_size_keep_their_shape_and_level(shape: tuple[int, int]) -> None:
    noise = white_noise(shape)
    low, high = bm3d(noise, WHITE), bm3d(noise + 1000.0, WHITE)
    assert low.shape == noise.shape
    assert torch.allclose(high - 1000.0, low, atol=0.05)
    assert float(low.std()) < 0.5 * SIGMA


def test_ct_by_name_is_less_noisy_with_means_kept_and_slices_on_their_own() -> None:
    clean = phantom_series("abdomen", slices=2, size=96)
    noise = np.stack([white_noise((96, 96), seed).numpy() for seed in (1, 2)])
    noisy = clean.with_hu(clean.hu + noise)
    denoiser = load_denoiser("bm3d", device="cpu")
    result, report = denoise_volume(noisy, denoiser, Condition(), seed=1, limits=None)
    before, after = (np.abs(one.hu - clean.hu).mean() for one in (noisy, result))
    assert after < 0.5 * before
    assert abs(float((result.hu - noisy.hu).mean())) < 0.5
    assert (report.model, report.steps) == ("bm3d", 0)
    second = Volume(noisy.hu[1:], noisy.spacing_mm, noisy.affine)
    alone, _ = denoise_volume(second, denoiser, Condition(), seed=9, limits=None)
    assert alone.hu.tobytes() == result.hu[1:].tobytes()


def test_a_slice_without_soft_tissue_stays_and_so_do_values_beyond_the_range() -> None:
    denoiser = load_denoiser("bm3d", device="cpu")
    air = white_noise((1, 64, 64)) - 1000.0
    assert torch.equal(denoiser.denoise(air, Condition(), torch.Generator()), air)
    tissue = white_noise((1, 64, 64)) + 40.0
    tissue[0, :4, :4] = 9000.0
    result = denoiser.denoise(tissue, Condition(), torch.Generator())
    assert float(result[0, :4, :4].min()) > 8900.0
    assert float(result[0, 20:, 20:].std()) < 0.5 * SIGMA


def test_its_card_says_that_it_is_for_comparison() -> None:
    (card,) = (card for card in list_models() if card.name == "bm3d")
    assert card.for_comparison
    assert card.weights_file == ""
