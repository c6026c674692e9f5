"""Dn-Dp by the door of a card: sizes, its MAP step, seeds, steps and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.regular_weights import regular
from torch import Tensor

from man_core import Condition, Denoiser, ModelCard, ModelError, load_denoiser
from man_core.denoisers.dn_dp import DnDpSampler
from man_core.diffusion.map_step import map_sampling
from man_core.diffusion.schedule import linear_schedule
from man_core.nets.ddpm_unet import DdpmUnetConfig
from man_core.nets.dn_dp import DN_DP_PRESETS, DN_DP_REDUCED, DnDp, DnDpConfig, PriorWeights
from man_core.nets.man import parameter_count
from man_core.weights import save_weights

UNET = DdpmUnetConfig(channels_in=1, channels=8, multipliers=(1, 2), blocks=1, attention=())
TINY = replace(
    DN_DP_REDUCED,
    low=replace(DN_DP_REDUCED.low, unet=UNET),
    high=replace(DN_DP_REDUCED.high, unet=replace(UNET, channels_in=2)),
)
CARD = ModelCard(name="tiny", version="0", method="dn-dp", summary="", sampler="map", steps=29)
SCHEDULE = linear_schedule(2000, 1e-6, 1e-2)


def written(folder: Path, config: DnDpConfig = TINY) -> str:
    """A card of regular weights; its path."""
    network = regular(DnDp(config))
    sha256 = save_weights(folder / "tiny.safetensors", network.state_dict(), config.to_dict())
    card = replace(CARD, weights_file="tiny.safetensors", weights_sha256=sha256)
    (folder / "tiny.json").write_text(card.to_json(), encoding="utf-8")
    return str(folder / "tiny.json")


def ramp(rows: int = 18, columns: int = 20) -> Tensor:
    return torch.linspace(-900, 900, rows * columns).view(1, rows, columns)


def denoised(denoiser: Denoiser, hu: Tensor, seed: int = 0) -> Tensor:
    return denoiser.denoise(hu, Condition(), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("preset", "low", "high"),
    [
        ("dn-dp", 97_803_457, 1_475_960_065),
        ("dn-dp-chest", 159_799_361, 789_921_345),
        ("dn-dp-reduced", 759_329, 1_099_697),
    ],
)
def test_presets_have_their_size_and_survive_their_file(preset: str, low: int, high: int) -> None:
    config = DN_DP_PRESETS[preset]
    with torch.device("meta"):
        network = DnDp(config)
    assert (parameter_count(network.low), parameter_count(network.high)) == (low, high)
    assert DnDpConfig.from_dict(config.to_dict()) == config


def test_the_published_29_of_2000_steps_are_sampled() -> None:
    steps = DN_DP_PRESETS["dn-dp"].subset(29)
    assert (len(steps), steps[:5], steps[-2:]) == (29, [2000, 1501, 1001, 501, 481], [21, 1])


@pytest.mark.parametrize(("weight", "nearer"), [(0.0, "low dose"), (1e6, "prior")])
def test_the_weight_decides_between_low_dose_and_prior(weight: float, nearer: str) -> None:
    low, prior = torch.full((1, 1, 4, 4), 3.0), torch.full((1, 1, 4, 4), -2.0)
    state = map_sampling(
        lambda z, step: prior, low, low, [41, 21, 1], SCHEDULE, weight, torch.zeros_like, int
    )
    assert torch.allclose(state, low if nearer == "low dose" else prior, atol=0.01)


def test_the_adaptive_weight_rises_with_the_noise_and_is_never_negative() -> None:
    weights = PriorWeights()
    random = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    quiet, loud, louder = (weights.adaptive(scale * random) for scale in (0.001, 0.02, 0.04))
    assert not quiet.any()
    expected = (1.5 * 0.02 * random.std() - 0.01) / 0.0075 * 0.3 * 0.02 * random.abs()
    assert torch.allclose(loud, expected, rtol=1e-3)
    assert bool((louder >= loud).all())


def test_a_result_is_the_golden_one(tmp_path: Path) -> None:
    """Computed by this code on a CPU in float32; the tolerance is for other processors."""
    result = denoised(load_denoiser(written(tmp_path), device="cpu", steps=6), ramp())
    found = [float(result[0, row, column]) for row, column in ((0, 0), (7, 3), (17, 19))]
    assert found == pytest.approx([-872.15, -99.52, 934.05], abs=0.3)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    one, two = (load_denoiser(written(tmp_path), device="cpu", steps=4) for _ in range(2))
    assert torch.equal(denoised(one, ramp()), denoised(two, ramp()))
    assert not torch.equal(denoised(one, ramp()), denoised(one, ramp(), seed=1))


def test_every_step_of_every_stage_and_run_is_reported() -> None:
    network, seen = regular(DnDp(TINY)), []
    with torch.inference_mode():
        DnDpSampler(network, runs=2).sample(
            torch.zeros(1, 1, 8, 8),
            torch.zeros_like,
            lambda done, total: seen.append((done, total)),
            steps=5,
        )
    assert seen == [(done, 26) for done in range(1, 27)]


def test_what_the_weights_cannot_do_is_refused(tmp_path: Path) -> None:
    card = written(tmp_path)
    with pytest.raises(ModelError, match="1 to 29 steps, got 30"):
        load_denoiser(card, device="cpu", steps=30)
    with pytest.raises(ModelError, match="cannot be sampled by 'ddim'; use map"):
        load_denoiser(card, device="cpu", sampler="ddim")


@pytest.mark.parametrize(
    "change",
    [{"factor": 1}, {"runs": 0}, {"high": TINY.low}, {"low": replace(TINY.low, diffusion_steps=9)}],
)
def test_stages_that_do_not_fit_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        replace(TINY, **change)  # type: ignore[arg-type]
