from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from man_core import ModelCard
from man_core.filters import gaussian
from training.data.batch import Batch
from training.errors import RecipeError
from training.fit.task import Moment, RunFacts
from training.fit.tasks.build import build_task
from training.fit.tasks.man_diffusion import DiffusionTask
from training.objectives.lesions import draw_lesions
from training.objectives.perceptual import feature_distance, perceptual_features
from training.objectives.restoration import (
    HALF_NOISE_HU,
    RestorationObjective,
    restoration_loss,
)
from training.settings import Recipe, load_recipe

TERMS = ("pixel", "structure", "feature", "mean")


def crops(noise_hu: float) -> tuple[Tensor, Tensor]:
    """Low and full dose of an edge between fat and muscle."""
    full = torch.full((4, 1, 64, 64), 50.0)
    full[..., 32:] = -100.0
    noise = torch.randn(full.shape, generator=torch.Generator().manual_seed(0))
    return full + noise_hu * noise, full


def terms_of(
    restored: Tensor, low: Tensor, full: Tensor, noise_hu: float = 0.0
) -> dict[str, Tensor]:
    return restoration_loss(
        perceptual_features(None),
        restored,
        low,
        full,
        torch.full((len(low),), noise_hu),
        RestorationObjective(),
        torch.Generator().manual_seed(0),
    )


def test_terms_are_about_one_for_the_low_dose_and_fall_towards_the_truth() -> None:
    low, full = crops(40.0)
    untouched, half, truth = (
        terms_of(full + share * (low - full), low, full) for share in (1.0, 0.5, 0.0)
    )
    for name in TERMS:
        assert 0.6 < float(untouched[name]) <= 1.0
        assert 0.0 <= float(truth[name]) < float(half[name]) < float(untouched[name])
        assert float(truth[name]) < 1e-3


def test_a_local_shift_of_the_mean_is_seen_by_the_mean_term_first() -> None:
    low, full = crops(20.0)
    shifted = full.clone()
    shifted[..., 16:32, 8:24] += 20.0
    found = terms_of(shifted, low, full)
    assert float(found["mean"]) > 2.0
    assert float(found["pixel"]) < 0.5


def test_a_bias_too_small_to_be_seen_in_a_pixel_is_seen_by_the_mean_term() -> None:
    low, full = crops(20.0)
    found = terms_of(full - 3.0, low, full)
    assert float(found["mean"]) > 3.0
    assert float(found["pixel"]) < 0.1


def test_truth_below_the_stored_range_counts_as_clipped() -> None:
    low, full = (hu - 1000.0 for hu in crops(40.0))
    noisy = full + 0.5 * (low - full)
    assert (noisy < -1024.0).any()
    found = terms_of(noisy.clip(-1024.0), low, noisy)
    assert float(found["mean"]) < 1e-6


@pytest.mark.parametrize("term", ["pixel", "mean"])
def test_noise_of_either_a_quiet_or_a_loud_truth_is_taken_away_in_part(term: str) -> None:
    loud, quiet = crops(20.0)
    kept, shrunk = (
        sum(float(terms_of(answer, loud, truth, 20.0)[term]) for truth in (loud, quiet))
        for answer in (loud, quiet + 0.6 * (loud - quiet))
    )
    assert shrunk < kept


def test_crops_without_noise_have_finite_weights() -> None:
    low, full = crops(0.0)
    found = terms_of(full + 1.0, low, full)
    assert torch.isfinite(found["restoration"])


def test_feature_weights_are_scaled_as_their_file_says(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    weights = {"features.0.weight": torch.randn(4, 3, 3, 3), "features.0.bias": torch.zeros(4)}
    weights |= {"features.2.weight": torch.randn(4, 4, 3, 3), "features.2.bias": torch.zeros(4)}
    torchvision, oxford = tmp_path / "tv.safetensors", tmp_path / "oxford.safetensors"
    save_file(weights, torchvision)
    save_file(weights, oxford, metadata={"input": "255*rgb01 - [123.68,116.779,103.939]"})
    image, other = torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16)
    near, far = (
        feature_distance(features(image), features(other))
        for features in map(perceptual_features, (torchvision, oxford))
    )
    assert near.shape == (2,)
    # the original weights see 255 times what torchvision's see, but for its division by the std
    torch.testing.assert_close(far / near, torch.full((2,), 255 * 0.226), rtol=0.15, atol=0)
    floors = [perceptual_features(path).floor for path in (torchvision, oxford)]
    assert [f / n for n, f in zip(*floors, strict=True)] == pytest.approx(
        [255 * 0.226] * 3, rel=0.15
    )
    assert floors[0][0] > floors[0][1] > floors[0][2] > 0  # the wider the window, the less
    with pytest.raises(RecipeError, match="cannot be read"):
        perceptual_features(tmp_path / "absent.safetensors")


def task_of(objective: dict[str, Any], model: dict[str, Any]) -> DiffusionTask:
    tiny = load_recipe("man-diffusion-tiny").model_dump()
    recipe = Recipe.model_validate(tiny | {"objective": objective, "model": tiny["model"] | model})
    task = build_task(recipe, torch.device("cpu"))
    assert isinstance(task, DiffusionTask)
    return task


def batch() -> Batch:
    low, full = crops(30.0)
    position = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(4, -1)
    return Batch(full, low, torch.full((4,), 0.25), position, torch.full((4,), 30.0))


@pytest.mark.parametrize("objective", [{}, {"restoration": {}, "latent": 0.3}])
def test_the_decoder_is_fitted_only_where_its_image_is_compared(objective: dict[str, Any]) -> None:
    task = task_of(objective, {"detail": {"channels": 8, "blocks": 1}})
    losses = task.loss(batch(), Moment(0, 0.5, torch.Generator().manual_seed(0)))
    losses["loss"].backward()
    stage_one = task.network.autoencoder
    assert all(value.grad is None for value in stage_one.encoder.parameters())
    moved = [v.grad is not None and bool(v.grad.any()) for v in stage_one.decoder.parameters()]
    assert any(moved) == bool(objective)
    path = task.network.detail
    assert path is not None
    assert (path.give.weight.grad is not None) == bool(objective)
    assert set(TERMS).issubset(losses) == bool(objective)


def transferred(
    change: Callable[[Tensor], Tensor], noise_hu: float = 30.0, stated_hu: float = 0.0
) -> float:
    """The transfer term where planted lesions change the result as stated."""
    low, full = crops(noise_hu)
    lesions = draw_lesions(full, 2, torch.Generator().manual_seed(0))
    unplanted = low.clone()  # a result may leave noise, which is no change
    found = restoration_loss(
        perceptual_features(None),
        unplanted + change(lesions.hu),
        low + lesions.hu,
        full + lesions.hu,
        torch.full((len(low),), stated_hu),
        RestorationObjective(transfer=1.0),
        torch.Generator().manual_seed(0),
        lesions,
        unplanted,
    )
    return float(found["transfer"])


def test_transfer_is_the_share_of_the_lesions_that_the_result_lacks() -> None:
    assert transferred(lambda hu: hu) == pytest.approx(0.0, abs=1e-6)
    lost = transferred(torch.zeros_like)
    assert 0.5 < lost < 1.0  # the faintest count for less
    assert transferred(lambda hu: 0.5 * hu) == pytest.approx(0.25 * lost, rel=1e-4)
    assert transferred(lambda hu: 1.5 * hu) == pytest.approx(0.25 * lost, rel=1e-4)


def test_transfer_sees_a_blurred_edge_and_no_noise() -> None:
    def blurred(hu: Tensor) -> Tensor:
        return gaussian(hu[:, 0], 2.0)[:, None]

    assert transferred(blurred) > 0.02
    assert transferred(blurred, 10.0) == pytest.approx(transferred(blurred, 40.0), rel=1e-4)


def test_transfer_counts_the_less_the_louder_a_crop_is() -> None:
    quiet, half, loud = (
        transferred(torch.zeros_like, stated_hu=noise) for noise in (0.0, HALF_NOISE_HU, 300.0)
    )
    assert half == pytest.approx(quiet / 2, rel=1e-4)
    assert loud < 0.02 * quiet


def test_a_task_compares_transfer_only_if_it_has_a_weight() -> None:
    for weight in (0.0, 2.0):
        objective = {"lesions": 2, "restoration": {"transfer": weight}}
        losses = task_of(objective, {}).loss(batch(), Moment(0, 0.5, torch.Generator()))
        assert ("transfer" in losses) == bool(weight)
        assert torch.isfinite(losses["loss"])


@pytest.mark.parametrize("model", [{}, {"gain_channels": 16}])
def test_a_task_compares_the_shape_of_the_noise_only_if_it_has_a_weight(
    model: dict[str, Any],
) -> None:
    for weight in (0.0, 2.0):
        objective = {"lesions": 2, "restoration": {"noise_shape": weight}}
        losses = task_of(objective, model).loss(batch(), Moment(0, 0.5, torch.Generator()))
        assert ("noise_shape" in losses) == bool(weight)
        assert torch.isfinite(losses["loss"])


def test_noise_of_the_opposite_sign_shows_the_noise_left_without_anatomy() -> None:
    low, full = crops(30.0)

    def found(share: float, sigma: float) -> float:
        """Leave slow noise, and change the anatomy alike in both results."""
        left = share * gaussian((low - full)[:, 0], sigma)[:, None]
        blurred = gaussian(full[:, 0], 3.0)[:, None]
        terms = restoration_loss(
            perceptual_features(None),
            blurred + left,
            low,
            full,
            torch.zeros(len(low)),
            RestorationObjective(noise_shape=1.0),
            torch.Generator().manual_seed(0),
            opposed=blurred - left,
        )
        return float(terms["noise_shape"])

    assert found(1.0, 0.2) == pytest.approx(0.0, abs=1e-3)
    assert found(0.2, 0.2) == pytest.approx(0.0, abs=1e-3)
    assert found(1.0, 1.5) > 0.2


@pytest.mark.parametrize(("objective", "steps"), [({}, 2), ({"restoration": {}}, 1)])
def test_a_card_samples_in_one_step_after_stage_three(
    tmp_path: Path, objective: dict[str, Any], steps: int
) -> None:
    card = task_of(objective, {}).export(tmp_path, RunFacts("set", 1, 1.0, "CPU"))
    assert ModelCard.load(card).steps == steps
