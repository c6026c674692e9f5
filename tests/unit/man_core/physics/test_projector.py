"""Projection and filtered back-projection against what is known analytically."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from man_core.physics.projector import (
    WATER_PER_MM,
    attenuation,
    filtered_back_projection,
    project,
)

SIZE, PIXEL_MM = 128, 3.0


def disc(diameter_mm: float, hu: float = 0.0) -> Tensor:
    line = (torch.arange(SIZE) - 0.5 * (SIZE - 1)) * PIXEL_MM
    inside = torch.hypot(line[:, None], line[None, :]) < 0.5 * diameter_mm
    return torch.where(inside, torch.tensor(hu), torch.tensor(-1000.0))[None]


def test_300_mm_of_water_have_a_line_integral_of_5_76() -> None:
    sinogram = project(attenuation(disc(300.0)), PIXEL_MM, views=60)
    through_the_axis = sinogram[0, :, sinogram.shape[2] // 2]
    assert through_the_axis.mean() == pytest.approx(5.76, rel=0.01)


def test_every_view_sees_the_whole_mass() -> None:
    mu = attenuation(torch.randn(1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 100)
    mu[:, :20], mu[:, -20:], mu[..., :20], mu[..., -20:] = 0, 0, 0, 0
    sinogram = project(mu, PIXEL_MM, views=12, bin_pixels=0.6)
    mass = sinogram.sum(-1) * 0.6 * PIXEL_MM
    torch.testing.assert_close(mass, mu.sum() * PIXEL_MM**2 * torch.ones(1, 12), rtol=3e-3, atol=0)


def test_back_projection_returns_the_disc() -> None:
    sinogram = project(attenuation(disc(240.0, hu=50.0)), PIXEL_MM, views=360)
    image = filtered_back_projection(sinogram, PIXEL_MM, SIZE, SIZE, cutoff=1.0)
    hu = (image / WATER_PER_MM - 1.0) * 1000.0
    assert hu[0, 54:74, 54:74].mean() == pytest.approx(50.0, abs=6.0)
    assert hu[0, 2:10, 60:68].mean() == pytest.approx(-1000.0, abs=12.0)


def test_back_projection_is_linear() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(1, 60, 303, generator=generator) for _ in range(2))

    def reconstruct(sinogram: Tensor) -> Tensor:
        return filtered_back_projection(sinogram, 1.0, 96, 96)

    expected = 2.0 * reconstruct(a) - 3.0 * reconstruct(b)
    torch.testing.assert_close(reconstruct(2.0 * a - 3.0 * b), expected, rtol=1e-4, atol=1e-4)


def test_a_lower_cutoff_leaves_less_noise() -> None:
    noise = torch.randn(1, 180, 303, generator=torch.Generator().manual_seed(2))
    stds = [
        float(filtered_back_projection(noise, 1.0, 128, 128, cutoff=c).std()) for c in (0.6, 1, 1.8)
    ]
    assert stds == sorted(stds)


def test_slices_do_not_mix() -> None:
    both = torch.cat((disc(200.0), disc(120.0)))
    sinogram = project(attenuation(both), PIXEL_MM, views=12)
    alone = project(attenuation(both[1:]), PIXEL_MM, views=12)
    torch.testing.assert_close(sinogram[1:], alone)
    assert math.isclose(float(sinogram[0].max()), 200.0 * WATER_PER_MM, rel_tol=0.03)


@pytest.mark.parametrize("at_once", [7, 60])
def test_views_in_few_large_passes_give_the_same_image(at_once: int) -> None:
    mu = attenuation(torch.cat([disc(240.0), disc(120.0, hu=300.0)]))
    sinograms = [project(mu, PIXEL_MM, views=60, views_at_once=n) for n in (None, at_once)]
    torch.testing.assert_close(*sinograms, rtol=1e-5, atol=1e-5)
    images = [
        filtered_back_projection(sinograms[0], PIXEL_MM, SIZE, SIZE, views_at_once=n)
        for n in (None, at_once)
    ]
    torch.testing.assert_close(*images, rtol=0, atol=1e-5 * float(images[0].abs().max()))
