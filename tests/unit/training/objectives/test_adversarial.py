"""Losses against critics: their values for critics, crops and files that are known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from training.objectives.deep_features import DeepestFeatures, deep_features
from training.objectives.du_gan import (
    DuGanObjective,
    cutmix_mask,
    discriminator_loss,
    gradient_magnitude,
    score_loss,
)
from training.objectives.wgan_vgg import critic_loss, gradient_penalty, perceptual_loss


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Sloped(nn.Module):
    """Critic whose slope has a known length everywhere."""

    def __init__(self, slope: float, pixels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((pixels,), slope / pixels**0.5))

    def forward(self, crops: Tensor) -> Tensor:
        return crops.flatten(1) @ self.weight[:, None]


@pytest.mark.parametrize(("slope", "penalty"), [(1.0, 0.0), (3.0, 4.0), (0.5, 0.25)])
def test_the_penalty_is_the_squared_distance_of_the_slope_from_one(
    slope: float, penalty: float
) -> None:
    full, result = torch.randn(2, 4, 1, 8, 8, generator=seeded())
    critic = Sloped(slope, 64)
    found = gradient_penalty(critic, full, result, seeded())
    assert found.item() == pytest.approx(penalty, abs=1e-5)
    found.backward()
    assert critic.weight.grad is not None


def test_the_critic_is_paid_for_higher_scores_of_full_dose() -> None:
    full = torch.full((2, 1, 8, 8), 3.0)
    terms = critic_loss(Sloped(1.0, 64), full, torch.ones_like(full), 10.0, seeded())
    assert terms["wasserstein"].item() == pytest.approx(2 * 64 / 8)
    assert terms["critic"].item() == pytest.approx(-2 * 64 / 8, abs=1e-3)


@pytest.mark.parametrize("held", [(0, 2, 5, 7), (0, 2, 5, 7, 10, 12, 14, 16, 19)])
def test_the_deepest_features_are_those_of_the_last_convolution_of_the_file(
    held: tuple[int, ...], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    layers, into = [], 3
    for index in range(held[-1] + 1):
        if index in held:
            layers.append(nn.Conv2d(into, 4, 3, padding=1))
            into = 4
        elif index - 1 in held:
            layers.append(nn.ReLU())
        else:
            layers.append(nn.MaxPool2d(2))
    vgg = nn.Sequential(*layers)
    file = tmp_path / "vgg.safetensors"
    save_file({f"features.{name}": value for name, value in vgg.state_dict().items()}, file)
    features = deep_features(file)
    assert isinstance(features, DeepestFeatures)
    image = torch.rand(2, 1, 32, 32)
    (found,) = features(image)
    expected = vgg((image.expand(-1, 3, -1, -1) - features.mean) / features.std)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_without_a_file_the_features_see_gradients_and_levels() -> None:
    features = deep_features(None)
    crops = torch.zeros(2, 1, 32, 32)
    same = perceptual_loss(features, crops, crops, seeded())
    brighter = perceptual_loss(features, crops, crops + 20.0, seeded())
    noisy = perceptual_loss(features, crops, 20 * torch.randn(2, 1, 32, 32), seeded())
    assert same.item() == 0.0
    assert brighter.item() > 0.0
    assert noisy.item() > brighter.item()


def test_scores_of_mixed_crops_are_wanted_pixel_by_pixel() -> None:
    whole, pixels = torch.tensor([[0.5]]), torch.tensor([[[[1.0, 0.5]]]])
    mask = torch.tensor([[[[1.0, 0.0]]]])
    assert score_loss((whole, pixels), 1.0).item() == pytest.approx(0.25 + 0.125)
    assert score_loss((whole, pixels), mask).item() == pytest.approx(0.25 + 0.125)
    assert score_loss((whole, pixels), 0.0).item() == pytest.approx(0.25 + 0.625)


class Knowing(nn.Module):
    """Discriminator that scores each pixel by itself, and a crop by its mean."""

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        return crops.mean(dim=(1, 2, 3))[:, None], crops


def test_a_discriminator_without_faults_has_only_the_loss_of_mixed_crops() -> None:
    full, none = torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    mask = torch.cat((torch.ones(1, 1, 4, 2), torch.zeros(1, 1, 4, 2)), dim=3)
    plain = discriminator_loss(Knowing(), full, none, none, None, 5.0)
    mixed = discriminator_loss(Knowing(), full, none, none, mask, 5.0)
    assert (plain["critic"].item(), plain["cutmix"].item()) == (0.0, 0.0)
    assert mixed["cutmix"].item() == pytest.approx(0.25)  # the mean of the mixed crop is 0.5
    assert mixed["critic"].item() == pytest.approx(0.25)


def test_cutmix_draws_rectangles_whose_area_is_uniform_and_mixes_as_often_as_wanted() -> None:
    crops = torch.zeros(400, 1, 32, 32)
    mask = cutmix_mask(crops, 1.0, seeded())
    assert mask is not None
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    for one in 1 - mask[:20, 0]:
        rows, columns = one.any(dim=1).sum(), one.any(dim=0).sum()
        assert one.sum() == rows * columns
    assert cutmix_mask(crops, 0.0, seeded()) is None
    drawn = [cutmix_mask(crops[:1], 0.7616, seeded(seed)) is not None for seed in range(300)]
    assert sum(drawn) / len(drawn) == pytest.approx(0.7616, abs=0.08)


def test_cutmix_warms_up() -> None:
    objective = DuGanObjective(cutmix_probability=0.8, cutmix_warmup_steps=100)
    found = [objective.cutmix_probability_at(step) for step in (0, 50, 100, 1000)]
    assert found == pytest.approx([0.0, 0.4, 0.8, 0.8])


def test_the_gradient_of_a_ramp_is_its_slope_over_two_pixels() -> None:
    rows = torch.arange(8.0)[:, None].expand(8, 8)
    found = gradient_magnitude(3.0 * rows[None, None])
    assert found[0, 0, 4, 4].item() == pytest.approx(6.0, abs=1e-3)
    assert gradient_magnitude(torch.ones(1, 1, 4, 4)).max().item() == pytest.approx(0.01)
