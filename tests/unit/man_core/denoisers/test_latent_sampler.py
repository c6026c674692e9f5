"""The samplers of a MAN by the names in its card: finite, repeatable, distinct, or refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from man_core import Condition, ModelCard, ModelError, load_denoiser
from man_core.denoisers.latent_sampler import CosineSampler, latent_sampler
from man_core.diffusion.names import SAMPLERS
from man_core.diffusion.residual_shift import ShiftConfig
from man_core.diffusion.schedule import cosine_schedule
from man_core.nets.autoencoder import AutoencoderConfig
from man_core.nets.man import ManConfig, ManNetwork
from man_core.nets.unet import UnetConfig
from man_core.weights import save_weights

TINY = ManConfig(
    AutoencoderConfig(latent=4, stem=2, channels=(8, 8)),
    UnetConfig(latent=4, channels=(8, 16), attention=(1,), context=16, context_width=8, time=16),
)
SHIFT = replace(TINY, diffusion="residual-shift", shift=ShiftConfig(steps=5))
WAYS = [
    *((TINY, sampler) for sampler in SAMPLERS["cosine"]),
    *((replace(TINY, start=start, first_step=300), "ddim") for start in ("ldct", "matched")),
    *((SHIFT, sampler) for sampler in SAMPLERS["residual-shift"]),
]
NAMES = [*SAMPLERS["cosine"], "ldct", "matched", *SAMPLERS["residual-shift"]]


def network_of(config: ManConfig) -> ManNetwork:
    torch.manual_seed(0)
    network = ManNetwork(config).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return network


def written(folder, config, sampler="ddim"):
    """A card of random weights; its path."""
    network = network_of(config)
    sha256 = save_weights(folder / "tiny.safetensors", network.state_dict(), config.to_dict())
    card = ModelCard(
        name="tiny",
        version="0",
        method="man",
        summary="tiny",
        weights_file="tiny.safetensors",
        weights_sha256=sha256,
        sampler=sampler,
        steps=3,
    )
    (folder / "tiny.json").write_text(card.to_json())
    return str(folder / "tiny.json")


def denoised(denoiser, slices=1, seed=0):
    hu = 100 * torch.randn(1, 24, 40, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(seed)
    return denoiser.denoise(hu.expand(slices, -1, -1), Condition(), generator)


@pytest.mark.parametrize(("config", "sampler"), WAYS, ids=NAMES)
def test_every_sampler_is_finite_and_repeatable(tmp_path, config, sampler):
    denoiser = load_denoiser(written(tmp_path, config, sampler), device="cpu")
    first = denoised(denoiser)
    assert torch.isfinite(first).all()
    assert torch.equal(first, denoised(denoiser))
    assert not torch.equal(first, denoised(denoiser, seed=9))


@pytest.mark.parametrize(("config", "sampler"), WAYS, ids=NAMES)
def test_equal_slices_of_a_batch_come_out_equal(tmp_path, config, sampler):
    """Noise is shared along the series, whatever noise a sampler adds on its way."""
    result = denoised(load_denoiser(written(tmp_path, config, sampler), device="cpu"), slices=2)
    assert torch.allclose(result[0], result[1], atol=1e-2)


def test_another_sampler_makes_another_digest_and_other_pixels(tmp_path):
    path = written(tmp_path, TINY)
    denoisers = [load_denoiser(path, device="cpu", sampler=s) for s in (None, "ddim", "dpmpp-2m")]
    same, named, other = (d.info.digest for d in denoisers)
    assert same == named != other
    assert denoisers[2].info.sampler == "dpmpp-2m"
    results = [denoised(d) for d in denoisers]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_one_step_is_the_same_for_every_sampler_without_noise(tmp_path):
    path = written(tmp_path, TINY)
    results = [denoised(load_denoiser(path, device="cpu", steps=1, sampler=s)) for s in NAMES[:3]]
    assert torch.allclose(results[0], results[1], atol=1e-2)
    assert torch.allclose(results[0], results[2], atol=1e-2)


@pytest.mark.parametrize(
    ("config", "sampler", "words"),
    [
        (TINY, "euler", "cannot be sampled by 'euler'; use ddim or dpmpp-2m or ddpm"),
        (TINY, "residual-shift", "cannot be sampled by 'residual-shift'"),
        (SHIFT, "ddim", "cannot be sampled by 'ddim'; use residual-shift or residual-ddim"),
    ],
)
def test_a_sampler_that_the_network_was_not_fitted_for_is_refused(tmp_path, config, sampler, words):
    path = written(tmp_path, config)
    with pytest.raises(ModelError, match=words):
        load_denoiser(path, device="cpu", sampler=sampler)


def test_what_does_not_sample_has_no_sampler():
    with pytest.raises(ModelError, match="'identity' does not sample"):
        load_denoiser("identity", sampler="ddim")


def test_a_residual_shift_has_no_more_steps_than_it_was_fitted_for(tmp_path):
    path = written(tmp_path, SHIFT, "residual-shift")
    assert load_denoiser(path, device="cpu", steps=2).steps == 2
    with pytest.raises(ModelError, match="1 to 5 steps, got 6"):
        load_denoiser(path, device="cpu", steps=6)


def start_of(config, noise_size):
    """Step and value from which sampling starts where the clean latent is zero."""
    network = network_of(config)
    seen = []

    def predict(z, step, low, position, context, gain):
        seen.append((int(step[0]), z.clone()))
        return -low

    network.predict = predict
    low = noise_size * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    latent_sampler(network, SAMPLERS[config.diffusion][0], 3).sample(
        low, torch.zeros(1, 4), lambda like: noise
    )
    return [step for step, _ in seen], seen[-3][1], low, noise


def test_starts_are_those_of_their_readings():
    steps, z, _, noise = start_of(TINY, 0.1)
    assert steps == [990, 660, 330]
    assert torch.equal(z, noise)
    steps, z, low, noise = start_of(replace(TINY, start="ldct", first_step=300), 0.1)
    level = cosine_schedule(1000).alpha_bar[300].float()
    assert steps == [300, 200, 100]
    assert torch.allclose(z, level.sqrt() * low + (1 - level).sqrt() * noise)
    steps, z, low, noise = start_of(SHIFT, 0.1)
    assert steps == [1000, 600, 400]
    assert torch.allclose(z, low + 0.5 * noise, atol=1e-3)


@pytest.mark.parametrize("size", [0.02, 0.3, 1.0])
def test_a_matched_start_has_the_noise_of_the_low_dose(size):
    steps, z, low, noise = start_of(replace(TINY, start="matched"), size)
    level = float(cosine_schedule(1000).alpha_bar[steps[1]])
    assert steps[0] == 990
    assert (1 / level - 1) ** 0.5 == pytest.approx(float(low.std(correction=0)), rel=0.15)
    assert torch.allclose(z, level**0.5 * low + (1 - level) ** 0.5 * noise, atol=1e-4)


def test_a_matched_start_never_begins_later_than_the_first_step():
    steps, *_ = start_of(replace(TINY, start="matched", first_step=200), 50.0)
    assert steps == [200, 200, 133, 67]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"prediction": "xo"}, "prediction must be one of eps, v, x0, residual, not 'xo'"),
        ({"start": "ldtc"}, "start must be one of noise, ldct, matched"),
        ({"diffusion": "linear"}, "diffusion must be one of cosine, residual-shift"),
        ({"diffusion": "residual-shift", "prediction": "eps"}, "must be one of x0, residual"),
    ],
)
def test_unknown_names_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        replace(TINY, **wrong)
    with pytest.raises(ValueError, match=r"unet\.condition must be one of xattn, concat, both"):
        replace(TINY.unet, condition="all")


def test_predictions_lie_little_further_out_than_the_low_dose():
    """Far out where the low dose is too: the fine channels of the table's edge are."""
    network = network_of(replace(TINY, latent_clamp=0.5, prediction="x0"))
    sampler = CosineSampler(network, "ddim", 2)
    torch.nn.init.constant_(network.unet.conv_out.bias, 90.0)
    for reach in (0.0, 3.0, -40.0):
        low = torch.full((1, 4, 8, 8), reach)
        clean = sampler.predict_clean(torch.zeros_like(low), 500, low, torch.zeros(1, 4))
        assert float(clean.detach().max()) == abs(reach) + 0.5


class Crossings(TorchDispatchMode):
    """Counts what is copied between two devices."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and func is torch.ops.aten._to_copy.default:
            self.count += result.device != args[0].device
        return result


@pytest.mark.parametrize(
    ("config", "sampler"),
    [way for way in WAYS if way[0].start != "matched"],
    ids=[name for name in NAMES if name != "matched"],
)
def test_a_sampler_neither_waits_for_its_device_nor_copies_to_it(config, sampler):
    """A meta tensor has no values: whoever asks for one fails."""
    network = network_of(config).to("meta")
    low, position = torch.zeros(2, 4, 8, 8, device="meta"), torch.zeros(2, 4, device="meta")
    with Crossings() as crossings, torch.no_grad():
        latent_sampler(network, sampler, 4).sample(low, position, torch.zeros_like)
    assert crossings.count == 0
