"""The networks that MAN is compared with: their published sizes and what a slice goes through."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from man_core import Condition, ModelCard, ModelError, load_denoiser
from man_core.card import NO_SAMPLER
from man_core.denoisers.single_pass import SinglePassDenoiser
from man_core.nets.ddpm_unet import DdpmUnet, DdpmUnetConfig
from man_core.nets.du_gan import DuGan, DuGanConfig, UnetDiscriminator
from man_core.nets.man import parameter_count
from man_core.nets.qae import Qae, QaeConfig
from man_core.nets.redcnn import RedCnn, RedCnnConfig
from man_core.nets.wgan_vgg import Critic, WganVgg, WganVggConfig
from man_core.weights import save_weights

CPU = torch.device("cpu")
NARROW = RedCnnConfig(channels=4)
CARD = ModelCard(
    name="redcnn", version="1", method="redcnn", summary="", sampler=NO_SAMPLER, steps=0
)


def denoised(network: RedCnn, hu: torch.Tensor) -> torch.Tensor:
    return SinglePassDenoiser(CARD, network, CPU).denoise(hu, Condition(), torch.Generator())


def random_network() -> RedCnn:
    """As if fitted: no layer is zero."""
    torch.manual_seed(0)
    network = RedCnn(NARROW)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


@pytest.mark.parametrize(
    ("build", "published"),
    [
        (lambda: RedCnn(RedCnnConfig()), 1_848_865),
        (lambda: Qae(QaeConfig()), 49_818),
        (lambda: WganVgg(WganVggConfig()), 56_097),
        (lambda: Critic(64), 7_699_905),
        (lambda: Critic(77), 13_991_361),
        (lambda: DuGan(DuGanConfig()), 185_569),
        (lambda: UnetDiscriminator(), 57_213_839),
        (lambda: DdpmUnet(DdpmUnetConfig()), 113_669_761),
    ],
    ids=["RED-CNN", "Q-AE", "WGAN-VGG", "critic of 64", "critic of 77", "DU-GAN", "U-Net", "DDPM"],
)
def test_networks_have_their_published_size(build, published):
    with torch.device("meta"):
        assert parameter_count(build()) == published


@settings(max_examples=25)
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), slices=st.integers(1, 2))
def test_an_unfitted_red_cnn_gives_back_slices_of_any_size_and_range(rows, columns, slices):
    generator = torch.Generator().manual_seed(rows * 41 + columns)
    hu = torch.randn(slices, rows, columns, generator=generator) * 3000
    result = denoised(RedCnn(NARROW), hu)
    assert result.shape == hu.shape
    assert torch.allclose(result, hu, atol=0.01)


def test_the_rim_of_an_even_slice_is_as_even_as_its_middle():
    result = denoised(random_network(), torch.full((1, 30, 23), 40.0))
    assert float((result - 40.0).abs().max()) > 1.0
    assert float(result.max() - result.min()) < 0.01


def test_an_output_pixel_sees_as_far_as_the_configuration_says():
    network = RedCnn(NARROW)
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, 0.1)
    x = torch.ones(1, 1, 61, 61, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(x)[0, 0, 30, 30], x)
    seen = gradient[0, 0].nonzero() - 30
    assert (int(seen.min()), int(seen.max())) == (-NARROW.reach, NARROW.reach)


def test_red_cnn_is_loaded_by_its_card_and_refuses_what_does_not_fit(tmp_path: Path):
    network = random_network()
    path = tmp_path / "redcnn.json"
    weights = tmp_path / "redcnn.safetensors"
    sha256 = save_weights(weights, network.state_dict(), NARROW.to_dict())
    card = replace(CARD, weights_file=weights.name, weights_sha256=sha256)
    path.write_text(card.to_json(), encoding="utf-8")
    hu = torch.randn(2, 24, 24) * 100
    denoiser = load_denoiser(str(path), device="cpu", steps=7)
    result = denoiser.denoise(hu, Condition(), torch.Generator())
    assert torch.allclose(result, denoised(network, hu), atol=0.5)
    assert (denoiser.steps, denoiser.slices_at_once(512, 512)) == (0, 1)
    with pytest.raises(ModelError, match="does not sample"):
        load_denoiser(str(path), device="cpu", sampler="ddim")
    other = replace(card, weights_sha256=save_weights(weights, network.state_dict(), {"width": 4}))
    path.write_text(other.to_json(), encoding="utf-8")
    with pytest.raises(ModelError, match="do not fit the network 'redcnn'"):
        load_denoiser(str(path), device="cpu")


def test_the_ddpm_network_predicts_one_slice_from_two_and_the_step():
    torch.manual_seed(0)
    network = DdpmUnet(DdpmUnetConfig(channels=32, multipliers=(1, 2), attention=(1,)))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x = torch.randn(2, 2, 16, 24)
    with torch.no_grad():
        early, late = (network(x, torch.tensor([step, step])) for step in (1, 900))
        other = network(torch.cat((-x[:, :1], x[:, 1:]), dim=1), torch.tensor([1, 1]))
    assert early.shape == (2, 1, 16, 24)
    assert not torch.allclose(early, late)
    assert not torch.allclose(early, other)
