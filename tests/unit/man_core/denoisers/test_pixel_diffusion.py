"""Conditional DDPM and Fast-DDPM by the door of a card: sizes, samplers, seeds and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.regular_weights import regular
from torch import Tensor

from man_core import (
    SAMPLERS,
    Condition,
    Denoiser,
    ModelCard,
    ModelError,
    Stopped,
    Volume,
    denoise_volume,
    load_denoiser,
)
from man_core.denoisers.pixel_diffusion import ConditionalSampler, PixelDiffusionDenoiser
from man_core.nets.ddpm_unet import DdpmUnetConfig
from man_core.nets.man import parameter_count
from man_core.nets.pixel_diffusion import (
    FAST_DDPM,
    NON_UNIFORM_STEPS,
    PIXEL_PRESETS,
    PixelDiffusion,
    PixelDiffusionConfig,
)
from man_core.weights import save_weights

UNET = DdpmUnetConfig(channels=8, multipliers=(1, 2), blocks=1, attention=(1,))
TINY = replace(FAST_DDPM, unet=UNET, prediction="residual")
CARD = ModelCard(name="tiny", version="0", method="fast-ddpm", summary="", sampler="ddim", steps=10)


def written(folder: Path, config: PixelDiffusionConfig = TINY, **changes: object) -> str:
    """A card of regular weights; its path."""
    network = regular(PixelDiffusion(config))
    sha256 = save_weights(folder / "tiny.safetensors", network.state_dict(), config.to_dict())
    card = replace(CARD, weights_file="tiny.safetensors", weights_sha256=sha256, **changes)  # type: ignore[arg-type]
    (folder / "tiny.json").write_text(card.to_json(), encoding="utf-8")
    return str(folder / "tiny.json")


def ramp(slices: int = 1, rows: int = 18, columns: int = 20) -> Tensor:
    return torch.linspace(-900, 900, slices * rows * columns).view(slices, rows, columns)


def denoised(denoiser: Denoiser, hu: Tensor, seed: int = 0) -> Tensor:
    return denoiser.denoise(hu, Condition(), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [
        ("ddpm", 113_669_761),
        ("fast-ddpm", 113_669_761),
        ("ddpm-reduced", 1_217_009),
        ("fast-ddpm-reduced", 1_217_009),
    ],
)
def test_presets_have_their_size_and_survive_their_file(preset: str, parameters: int) -> None:
    config = PIXEL_PRESETS[preset]
    with torch.device("meta"):
        assert parameter_count(PixelDiffusion(config)) == parameters
    assert PixelDiffusionConfig.from_dict(config.to_dict()) == config


def test_fast_ddpm_evaluates_its_ten_steps_and_ddpm_a_thousand() -> None:
    assert FAST_DDPM.subset(10) == sorted(NON_UNIFORM_STEPS, reverse=True)
    assert set(FAST_DDPM.subset(4)) < set(NON_UNIFORM_STEPS)
    assert PIXEL_PRESETS["ddpm"].subset(1000) == list(range(1000, 0, -1))


def test_a_result_is_the_golden_one(tmp_path: Path) -> None:
    """Computed by this code on a CPU in float32; the tolerance is for other processors."""
    result = denoised(load_denoiser(written(tmp_path), device="cpu"), ramp())
    found = [float(result[0, row, column]) for row, column in ((0, 0), (7, 3), (17, 19))]
    assert found == pytest.approx([-893.67, -174.82, 907.47], abs=0.1)
    assert float(result.mean()) == pytest.approx(8.16, abs=0.1)


@pytest.mark.parametrize("sampler", SAMPLERS["cosine"])
def test_every_sampler_gives_the_same_bytes_for_the_same_seed(tmp_path: Path, sampler: str) -> None:
    card = written(tmp_path)
    one, two = (load_denoiser(card, device="cpu", sampler=sampler, steps=3) for _ in range(2))
    assert torch.isfinite(denoised(one, ramp())).all()
    assert torch.equal(denoised(one, ramp()), denoised(two, ramp()))
    assert not torch.equal(denoised(one, ramp()), denoised(one, ramp(), seed=1))


def test_all_slices_start_from_the_same_noise(tmp_path: Path) -> None:
    denoiser = load_denoiser(written(tmp_path), device="cpu")
    alone = denoised(denoiser, ramp())
    both = denoised(denoiser, ramp().expand(2, -1, -1))
    assert torch.allclose(both, alone.expand(2, -1, -1), atol=1e-2)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 33)])
def test_slices_of_any_size_keep_it_and_values_out_of_range(shape: tuple[int, int, int]) -> None:
    untrained = PixelDiffusion(TINY)  # predicts no residual
    denoiser = PixelDiffusionDenoiser(
        CARD, ConditionalSampler(untrained, "ddim"), torch.device("cpu"), 2
    )
    hu = torch.full(shape, 40.0)
    hu[:, 0, 0] = 9000.0
    assert torch.allclose(denoised(denoiser, hu), hu, atol=0.01)
    assert denoiser.slices_at_once(512, 512) == 1


def test_what_the_weights_cannot_do_is_refused(tmp_path: Path) -> None:
    card = written(tmp_path)
    with pytest.raises(ModelError, match="1 to 10 steps, got 11"):
        load_denoiser(card, device="cpu", steps=11)
    with pytest.raises(ModelError, match="cannot be sampled by 'euler'"):
        load_denoiser(card, device="cpu", sampler="euler")
    sha256 = save_weights(tmp_path / "tiny.safetensors", {}, TINY.to_dict() | {"width": 4})
    other = replace(CARD, weights_file="tiny.safetensors", weights_sha256=sha256)
    Path(card).write_text(other.to_json(), encoding="utf-8")
    with pytest.raises(ModelError, match="do not fit the network"):
        load_denoiser(card, device="cpu")


@pytest.mark.parametrize(
    "change",
    [
        {"diffusion_steps": 0},
        {"diffusion_steps": 10**9},
        {"first_beta": 0.5},
        {"trained_steps": (3, 2)},
        {"trained_steps": (1, 1001)},
        {"prediction": "noise"},
    ],
)
def test_a_diffusion_out_of_range_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must|must be"):
        replace(TINY, **change)  # type: ignore[arg-type]


def test_a_long_slice_is_left_between_two_steps(tmp_path: Path) -> None:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 4

    denoiser = load_denoiser(written(tmp_path), device="cpu")
    volume = Volume(ramp().numpy(), (1.0, 1.0, 1.0), np.eye(4))
    with pytest.raises(Stopped):
        denoise_volume(volume, denoiser, Condition(), seed=1, should_stop=should_stop)
    assert asked == 5
