"""Noise insertion: strength, texture, place and determinism."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from man_core.noise import estimate_noise_and_texture, noise_hu, noise_hu_per_slice
from man_core.noise_texture import lag_correlation
from man_core.physics.low_dose import (
    broadband_noise,
    calibrate,
    insert_noise,
    matched_noise,
    shape_noise,
    tissue_mask,
)

SIZE, PIXEL_MM = 160, 2.0


def water(slices: int = 1) -> Tensor:
    line = (torch.arange(SIZE) - 0.5 * (SIZE - 1)) * PIXEL_MM
    inside = torch.hypot(line[:, None], line[None, :]) < 120.0
    disc = torch.where(inside, torch.tensor(40.0), torch.tensor(-1000.0))
    return disc.repeat(slices, 1, 1)


def added(dose: float, *, seed: int = 0, cutoff: float = 1.2, level: float = 10.0) -> Tensor:
    hu = water()
    low = insert_noise(
        hu,
        PIXEL_MM,
        dose=dose,
        noise_hu=level,
        cutoff=cutoff,
        generator=torch.Generator().manual_seed(seed),
        electronic=0.0,
    )
    return low - hu


@pytest.mark.parametrize("dose", [0.5, 0.25, 0.1])
def test_the_added_noise_grows_as_dose_falls(dose) -> None:
    noise = added(dose)[tissue_mask(water())]
    assert noise.std() == pytest.approx(10.0 * math.sqrt(1.0 / dose - 1.0), rel=0.06)


def test_electronic_noise_adds_to_it() -> None:
    hu = water()
    common = {"dose": 0.1, "noise_hu": 10.0, "cutoff": 1.2}
    stds = []
    for electronic in (0.0, 300.0):
        generator = torch.Generator().manual_seed(0)
        low = insert_noise(hu, PIXEL_MM, **common, generator=generator, electronic=electronic)
        stds.append(float((low - hu)[tissue_mask(hu)].std()))
    assert stds[1] > 1.01 * stds[0]


@pytest.mark.parametrize("cutoff", [0.7, 1.2, 2.0])
def test_the_noise_has_the_texture_asked_for(cutoff) -> None:
    noise = added(0.25, cutoff=cutoff)[0, 40:120, 40:120]
    lag = float((noise[:, 1:] * noise[:, :-1]).mean() / noise.var())
    lag += float((noise[1:] * noise[:-1]).mean() / noise.var())
    assert 0.5 * lag == pytest.approx(lag_correlation(cutoff)[0, 1], abs=0.08)


def test_one_seed_gives_one_image() -> None:
    assert torch.equal(added(0.25, seed=5), added(0.25, seed=5))
    assert not torch.equal(added(0.25, seed=5), added(0.25, seed=6))


def test_mean_hu_stays() -> None:
    noise = added(0.25)[tissue_mask(water())]
    assert abs(float(noise.mean())) < 1.0


def test_the_middle_of_the_body_is_noisier_than_its_edge() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = broadband_noise(water(4), PIXEL_MM, dose=0.25, generator=generator)
    middle, edge = noise[:, 70:90, 70:90].std(), noise[:, 70:90, 22:34].std()
    assert middle > 1.1 * edge


def test_slices_are_calibrated_one_by_one_or_together() -> None:
    generator = torch.Generator().manual_seed(0)
    noise, tissue = torch.randn(2, SIZE, SIZE, generator=generator), tissue_mask(water(2))
    noise[1] *= 3.0
    each = calibrate(noise, tissue, torch.tensor([10.0, 20.0]))
    assert [float(n.std()) for n in each] == pytest.approx([10.0, 20.0], rel=0.05)
    together = calibrate(noise, tissue, 10.0)
    assert float(together[1].std() / together[0].std()) == pytest.approx(3.0, rel=0.05)


def test_slices_together_have_the_noise_of_each_alone() -> None:
    levels = [10.0, 20.0]

    def matched(hu: Tensor, chosen: list[int]) -> Tensor:
        generators = [torch.Generator().manual_seed(index) for index in chosen]
        return matched_noise(
            hu, PIXEL_MM, dose=0.25, noise_hu=[levels[i] for i in chosen], cutoff=1.2,
            electronic=0.0, generators=generators,
        )  # fmt: skip

    together = matched(water(2), [0, 1])
    alone = torch.cat([matched(water(), [index]) for index in (0, 1)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-3)
    quiet, loud = (float(n[t].std()) for n, t in zip(together, tissue_mask(water(2)), strict=True))
    assert loud / quiet == pytest.approx(2.0, rel=0.1)  # full dose with twice the noise


@pytest.mark.parametrize("dose", [0.0, 1.0, -0.5, 2.0])
def test_a_dose_that_is_no_fraction_is_refused(dose) -> None:
    with pytest.raises(ValueError, match="fraction of the full dose"):
        added(dose)


@pytest.mark.parametrize("cutoff", [0.8, 1.3, 1.9])
def test_the_estimate_finds_strength_and_texture(cutoff) -> None:
    generator = torch.Generator().manual_seed(1)
    flat = torch.full((2, 192, 192), 40.0)
    noise = shape_noise(broadband_noise(flat, 0.7, dose=0.25, generator=generator), cutoff)
    noise = calibrate(noise, torch.ones_like(flat, dtype=torch.bool), 20.0)
    found = estimate_noise_and_texture((flat + noise).numpy())
    assert found.std_hu == pytest.approx(20.0, rel=0.06)
    assert found.cutoff == pytest.approx(cutoff, rel=0.1)


def test_an_image_without_soft_tissue_has_no_noise_figure() -> None:
    air = np.full((2, 64, 64), -1000.0, dtype=np.float32)
    assert noise_hu(air) == 0.0
    assert noise_hu_per_slice(air).tolist() == [0.0, 0.0]
    assert noise_hu(air[0, :8, :8]) == 0.0


def test_an_edge_is_not_noise() -> None:
    rng = np.random.default_rng(0)
    hu = np.full((2, 160, 160), 40.0, dtype=np.float32)
    hu += 5.0 * rng.standard_normal(hu.shape).astype(np.float32)
    calm = noise_hu(hu)
    hu[:, 60:90, 40:110] += 60.0
    assert noise_hu(hu) == pytest.approx(calm, rel=0.08)
