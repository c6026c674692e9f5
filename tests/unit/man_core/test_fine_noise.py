"""Fine noise of the source that a result keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.told_model import CONFIG, network_of
from torch import Tensor

from man_core import Condition, ModelCard
from man_core.denoisers.man import ManDenoiser
from man_core.filters import gaussian
from man_core.fine_noise import keep_fine_noise
from man_core.texture import MAX_SIGMA_PIXELS, Texture

CARD = ModelCard("told", "0", "man", "told", dose_gain=4.0, texture=Texture(0.4, 1.0))


def noise(seed: int = 0, side: int = 64) -> Tensor:
    return 30.0 * torch.randn(2, side, side, generator=torch.Generator().manual_seed(seed))


def kept_share_at(cycles_per_pixel: float, texture: Texture) -> float:
    """Share of a wave along the rows that is in a result that has lost all of it."""
    wave = torch.cos(2 * torch.pi * cycles_per_pixel * torch.arange(128.0)).expand(1, 128, 128)
    result = keep_fine_noise(wave, torch.zeros_like(wave), texture)
    inner = slice(32, 96)
    return float((result * wave)[0, inner, inner].sum() / (wave**2)[0, inner, inner].sum())


def fine(hu: Tensor) -> Tensor:
    return hu - gaussian(hu, 1.0)


def test_coarse_noise_stays_away_and_fine_noise_is_kept_to_its_share() -> None:
    texture = Texture(0.4, 1.0)
    assert kept_share_at(0.5, texture) == pytest.approx(0.4, abs=0.01)
    assert kept_share_at(1 / 64, texture) == pytest.approx(0.0, abs=0.005)


@pytest.mark.parametrize("frequency", [1 / 32, 1 / 16, 1 / 8])
def test_between_them_the_share_is_that_of_a_gaussian(frequency: float) -> None:
    texture = Texture(0.5, 1.0)
    passed = torch.exp(torch.tensor(-2.0 * (torch.pi * frequency) ** 2))
    assert kept_share_at(frequency, texture) == pytest.approx(0.5 * (1 - float(passed)), abs=0.01)


@given(share=st.floats(0.0, 1.0), sigma=st.floats(0.3, MAX_SIGMA_PIXELS), offset=st.floats(-50, 50))
def test_a_difference_of_means_stays(share: float, sigma: float, offset: float) -> None:
    source = noise()
    result = keep_fine_noise(source, source - offset, Texture(share, sigma))
    assert torch.allclose(result, source - offset, atol=1e-3)


def test_without_a_texture_the_result_is_the_same_tensor() -> None:
    source, result = noise(0), noise(1)
    assert keep_fine_noise(source, result, None) is result


@pytest.mark.parametrize(("gain", "share"), [(1.0, 0.4), (4.0, 0.2), (0.01, 1.0)])
def test_the_share_falls_as_noise_does_with_dose(gain: float, share: float) -> None:
    assert Texture(0.4, 1.0).share_at(gain) == pytest.approx(share)


@pytest.mark.parametrize(
    ("share", "sigma"), [(-0.1, 1.0), (1.1, 1.0), (0.5, 0.0), (0.5, 4.1), (float("nan"), 1.0)]
)
def test_a_value_out_of_range_is_refused(share: float, sigma: float) -> None:
    with pytest.raises(ValueError, match="of the texture must be"):
        Texture(share, sigma)


def test_a_card_keeps_its_texture_and_refuses_a_wrong_one() -> None:
    assert ModelCard.from_json(CARD.to_json()) == CARD
    with pytest.raises(ValueError, match="share of the texture"):
        ModelCard.from_json(CARD.to_json().replace('"share": 0.4', '"share": 4'))


def test_the_texture_is_part_of_the_models_identity() -> None:
    digests = {replace(CARD, texture=t).digest for t in (None, Texture(0.4, 1.0), Texture(0.4, 2))}
    assert len(digests) == 3


@pytest.mark.parametrize(("gain", "share"), [(None, 0.4), (16.0, 0.2)])
def test_a_denoiser_keeps_what_its_card_says(gain: float | None, share: float) -> None:
    network, hu = network_of(CONFIG), noise(side=256)
    plain, textured = (
        ManDenoiser(card, network, torch.device("cpu"), 1).denoise(
            hu, Condition(dose_gain=gain), torch.Generator().manual_seed(0)
        )
        for card in (replace(CARD, texture=None), CARD)
    )
    expected = keep_fine_noise(hu, plain, Texture(share, 1.0))
    assert torch.allclose(fine(textured), fine(expected), atol=0.2)  # coarse means are restored
    assert not torch.allclose(fine(textured), fine(plain), atol=2.0)
