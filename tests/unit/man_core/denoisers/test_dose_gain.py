"""MAN that is told the dose gain: by its card, or by the condition of a series."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.told_model import CONFIG, network_of, write_told_model
from torch import Tensor

from man_core import (
    MAX_DOSE_GAIN,
    Condition,
    ModelCard,
    ModelError,
    denoise_volume,
    load_denoiser,
    phantom_series,
)
from man_core.denoisers.man import ManDenoiser

CPU = torch.device("cpu")
CARD = ModelCard(name="told", version="0", method="man", summary="told", dose_gain=4.0)


@pytest.fixture(scope="module")
def told() -> ManDenoiser:
    return ManDenoiser(CARD, network_of(CONFIG), CPU, 1)


def denoised(denoiser: ManDenoiser, gain: float | None, slices: int = 3) -> Tensor:
    hu = 100.0 * torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(1))
    condition, generator = Condition(dose_gain=gain), torch.Generator().manual_seed(0)
    return denoiser.denoise(hu[:slices], condition, generator)


def test_the_default_is_that_of_the_card(told: ManDenoiser) -> None:
    assert torch.equal(denoised(told, None), denoised(told, 4.0))
    assert not torch.equal(denoised(told, None), denoised(told, 2.0))


def test_a_slice_does_not_depend_on_its_company(told: ManDenoiser) -> None:
    assert torch.equal(denoised(told, 2.0)[:1], denoised(told, 2.0, slices=1))


@pytest.mark.parametrize("gain", [0.5, 0.0, -1.0, MAX_DOSE_GAIN * 1.01, float("nan")])
def test_a_gain_out_of_range_is_refused(told: ManDenoiser, gain: float) -> None:
    with pytest.raises(ModelError, match="The dose gain must be from 1 to 64"):
        denoised(told, gain)


def test_a_model_that_is_not_told_refuses_a_gain() -> None:
    plain = replace(CONFIG, gain_channels=0)
    denoiser = ManDenoiser(replace(CARD, dose_gain=None), network_of(plain), CPU, 1)
    assert torch.isfinite(denoised(denoiser, None)).all()
    with pytest.raises(ModelError, match="'told' cannot be told a dose gain"):
        denoised(denoiser, 4.0)


@pytest.mark.parametrize(("gain", "channels"), [(None, 8), (4.0, 0)])
def test_card_and_weights_must_agree(gain: float | None, channels: int) -> None:
    network = network_of(replace(CONFIG, gain_channels=channels))
    with pytest.raises(ModelError, match="differ on dose gain"):
        ManDenoiser(replace(CARD, dose_gain=gain), network, CPU, 1)


def test_the_default_gain_is_part_of_the_models_identity(tmp_path: Path) -> None:
    path = write_told_model(tmp_path)
    card = ModelCard.load(path)
    loaded = load_denoiser(str(path))
    assert loaded.info == card
    assert loaded.info.digest == card.digest != replace(card, dose_gain=2.0).digest
    direct = ManDenoiser(card, network_of(), CPU, 1)
    assert torch.equal(denoised(loaded, None), denoised(direct, None))


@pytest.mark.parametrize(("wanted", "left"), [(None, 4.0), (2.0, 2.0)])
def test_the_report_names_the_gain(told: ManDenoiser, wanted: float | None, left: float) -> None:
    volume = phantom_series("abdomen", slices=1, size=64)
    _, report = denoise_volume(volume, told, Condition(dose_gain=wanted), seed=1)
    assert (report.dose_gain, report.to_dict()["dose_gain"]) == (left, left)


def test_whoever_is_not_told_the_gain_refuses_one() -> None:
    volume, identity = phantom_series("abdomen", slices=1, size=64), load_denoiser("identity")
    assert denoise_volume(volume, identity, Condition(), seed=1)[1].dose_gain is None
    with pytest.raises(ModelError, match="'identity' cannot be told a dose gain"):
        denoise_volume(volume, identity, Condition(dose_gain=2.0), seed=1)
