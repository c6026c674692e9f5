"""The networks of MAN from outside: shapes, sizes, agreement of a crop and a whole slice."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from man_core.hu import HuRange
from man_core.nets.autoencoder import Autoencoder, AutoencoderConfig, initialise_linear_path
from man_core.nets.detail import DetailConfig, DetailPath
from man_core.nets.man import ManConfig, ManNetwork, parameter_count
from man_core.nets.presets import MAN_F4, MAN_F8, MAN_S, PRESETS
from man_core.nets.unet import ConditionalUnet, UnetConfig

pytestmark = pytest.mark.usefixtures("without_gradients")

WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
SMALL = UnetConfig(
    latent=4, channels=(16, 24), attention=(1,), context=16, context_width=8, time=16
)


def test_the_default_is_compact():
    assert parameter_count(ManNetwork(MAN_S)) < 8_000_000


@pytest.fixture
def without_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("config", [MAN_S, MAN_F4, MAN_F8], ids=["man-s", "man-f4", "man-f8"])
def test_presets_build_and_survive_json(config):
    with torch.device("meta"):
        network = ManNetwork(config)
    assert parameter_count(network) > 0
    assert ManConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_presets_agree_on_latent_size():
    assert all(p.autoencoder.latent == p.unet.latent for p in PRESETS.values())


@pytest.mark.parametrize("norm", ["group", "pixel"])
@pytest.mark.parametrize("pool", [0, 1, 4])
def test_autoencoder_maps_a_slice_to_its_latent_and_back(norm, pool):
    config = AutoencoderConfig(
        latent=3, stem=2, channels=(8, 16), norm=norm, attention_pool=pool, linear_path=False
    )
    model = Autoencoder(config)
    posterior = model.encode(torch.randn(2, 1, 32, 64))
    assert posterior.mean.shape == posterior.log_variance.shape == (2, 3, 8, 16)
    assert model.decode(posterior.sample()).shape == (2, 1, 32, 64)
    assert float(posterior.kl()) >= 0


def test_a_full_linear_path_reproduces_the_slice():
    """With as many channels as pixels in a patch PCA loses nothing."""
    config = AutoencoderConfig(latent=16, stem=2, channels=(8, 8))
    model = Autoencoder(config)
    x = HuRange().to_network(torch.randn(4, 1, 32, 32) * 200)
    patches = x.unfold(2, 4, 4).unfold(3, 4, 4).reshape(-1, 16)
    initialise_linear_path(model, patches, noise=1e-3)
    restored = model.decode(model.encode(x).mean)
    mean_pattern = patches.mean(dim=0)
    assert (restored - x).abs().max() < 2 * (mean_pattern - mean_pattern.mean()).abs().max() + 1e-4


def test_the_fresh_posterior_has_the_wanted_pixel_noise():
    model = Autoencoder(AutoencoderConfig(latent=16, stem=2, channels=(8, 8)))
    x = torch.randn(64, 1, 32, 32) * 0.1
    patches = x.unfold(2, 4, 4).unfold(3, 4, 4).reshape(-1, 16)
    initialise_linear_path(model, patches, noise=0.01)
    posterior = model.encode(x)
    noise = model.decode(posterior.sample()) - model.decode(posterior.mean)
    assert float(noise.std()) == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("condition", ["xattn", "concat", "both"])
def test_the_unet_sees_its_condition_in_every_mode(condition):
    torch.manual_seed(0)
    model = ConditionalUnet(replace(SMALL, condition=condition))
    for parameter in model.parameters():  # the outputs of branches start at zero
        torch.nn.init.normal_(parameter, std=0.05)
    z, step = torch.randn(1, 4, 16, 16), torch.tensor([500])
    first = model(z, step, torch.randn(1, 4, 16, 16), WHOLE)
    second = model(z, step, torch.randn(1, 4, 16, 16), WHOLE)
    assert first.shape == z.shape
    assert not torch.allclose(first, second)


def test_attention_knows_where_a_crop_lies():
    torch.manual_seed(0)
    model = ConditionalUnet(replace(SMALL, condition="xattn"))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    z, c = torch.randn(2, 1, 4, 16, 16)
    corner = torch.tensor([[0.5, 0.5, 1.0, 1.0]])
    step = torch.tensor([500])
    assert not torch.allclose(model(z, step, c, WHOLE), model(z, step, c, corner))


def test_a_fresh_residual_network_is_the_identity_on_the_latent():
    config = ManConfig(AutoencoderConfig(latent=4, stem=2, channels=(8, 8)), SMALL)
    network = ManNetwork(config)
    z, c = torch.randn(2, 1, 4, 16, 16)
    assert torch.equal(network.predict(z, torch.tensor([9]), c, WHOLE), torch.zeros_like(z))


def test_pixel_normalisation_does_not_depend_on_the_rest_of_the_slice():
    """The reason for it: a crop and the slice around it give the same latent in the middle."""
    torch.manual_seed(0)
    config = AutoencoderConfig(
        latent=4, stem=2, channels=(8, 8), attention_pool=0, linear_path=False
    )
    model = Autoencoder(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    slice_ = torch.randn(1, 1, 160, 160)
    whole = model.encode(slice_).mean[..., 16:24, 16:24]
    crop = model.encode(slice_[..., 16:144, 16:144]).mean[..., 12:20, 12:20]
    assert torch.allclose(whole, crop, atol=1e-5)


def test_a_fresh_detail_path_adds_nothing():
    unet = replace(SMALL, latent=48)
    plain, pathed = (
        ManNetwork(ManConfig(unet=unet, detail=DetailConfig(channels=width))) for width in (0, 8)
    )
    pathed.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 1, 64, 64) * 0.1
    low = plain.encode(x)
    for network in (plain, pathed):
        torch.testing.assert_close(network.reconstruct(low * 0.9, low, x), plain.decode(low * 0.9))


def test_the_detail_path_does_not_see_the_level_of_a_tissue():
    """Fat and bone with the same noise get the same detail back."""
    torch.manual_seed(0)
    path = DetailPath(DetailConfig(channels=8, blocks=1), features=4, stem=4)
    for parameter in path.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    flat, features = torch.zeros(1, 1, 32, 32), torch.randn(1, 4, 8, 8)
    noise = torch.randn(1, 1, 32, 32) * 0.02
    fat, bone = (path(flat + level, features, flat + level + noise) - level for level in (0.0, 0.4))
    assert fat.std() > 1e-4
    torch.testing.assert_close(fat, bone, atol=1e-5, rtol=1e-4)


def test_nothing_restored_and_all_detail_is_the_input():
    network = ManNetwork(ManConfig(unet=replace(SMALL, latent=48), detail_share=1.0))
    x = torch.randn(1, 1, 64, 64) * 0.1
    low = network.encode(x)
    torch.testing.assert_close(network.reconstruct(low, low, x), x, atol=1e-5, rtol=1e-4)


def told(channels: int) -> ManNetwork:
    torch.manual_seed(0)
    return ManNetwork(
        ManConfig(
            autoencoder=AutoencoderConfig(latent=4, channels=(8, 8), attention_pool=0),
            unet=SMALL,
            detail=DetailConfig(channels=8, blocks=1),
            gain_channels=channels,
        )
    )


def restored(network: ManNetwork, gain: float) -> torch.Tensor:
    x = 0.1 * torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    low, gains = network.encode(x), torch.tensor([gain])
    clean = network.predict(low, torch.tensor([9]), low, WHOLE, gain=gains)
    return network.reconstruct(clean, low, x, gains)


def test_a_told_network_starts_as_the_same_network_that_is_not_told():
    plain, network = told(0), told(8)
    missing, surplus = network.load_state_dict(plain.state_dict(), strict=False)
    assert (set(missing), surplus) == (set(network.gain_parameters()), [])
    assert plain.gain_parameters() == ()
    for gain in (1.0, 4.0):
        assert torch.equal(restored(network, gain), restored(plain, gain))


@pytest.mark.parametrize("part", ["unet.told", "autoencoder.decoder", "detail"])
def test_the_dose_gain_reaches_unet_decoder_and_detail_path(part):
    network = told(8)
    for name, value in network.named_parameters():
        told_here = name.startswith(part) and name in network.gain_parameters()
        if told_here or "out" in name or "give" in name:  # the others start at zero
            torch.nn.init.normal_(value, std=0.1)
    assert not torch.allclose(restored(network, 1.0), restored(network, 4.0))
    assert torch.equal(restored(network, 4.0), restored(network, 4.0))
