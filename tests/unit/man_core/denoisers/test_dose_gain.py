"""MAN that is told the dose gain: by its card, or by the condition of a series."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from man_core import Condition, ModelCard, ModelError, load_denoiser
from man_core.denoisers.man import MAX_DOSE_GAIN, ManDenoiser
from man_core.nets.autoencoder import AutoencoderConfig
from man_core.nets.detail import DetailConfig
from man_core.nets.man import ManConfig, ManNetwork
from man_core.nets.unet import UnetConfig
from man_core.weights import save_weights

CPU = torch.device("cpu")
CARD = ModelCard(name="told", version="0", method="man", summary="told", dose_gain=4.0)
CONFIG = ManConfig(
    AutoencoderConfig(latent=4, stem=2, channels=(8, 8)),
    UnetConfig(latent=4, channels=(8, 16), attention=(1,), context=16, context_width=8, time=16),
    detail=DetailConfig(channels=8, blocks=1),
    gain_channels=8,
)


def network_of(config: ManConfig) -> ManNetwork:
    torch.manual_seed(0)
    network = ManNetwork(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return network


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


def test_the_default_gain_is_part_of_the_models_identity(tmp_path) -> None:
    network = network_of(CONFIG)
    sha256 = save_weights(tmp_path / "told.safetensors", network.state_dict(), CONFIG.to_dict())
    card = replace(CARD, weights_file="told.safetensors", weights_sha256=sha256)
    (tmp_path / "told.json").write_text(card.to_json())
    loaded = load_denoiser(str(tmp_path / "told.json"))
    assert loaded.info == card
    assert loaded.info.digest == card.digest != replace(card, dose_gain=2.0).digest
    assert torch.equal(denoised(loaded, None), denoised(ManDenoiser(CARD, network, CPU, 1), None))
