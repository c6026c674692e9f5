from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter
from torchmetrics.functional.image import lpips as torchmetrics_lpips

from man_core.quality import (
    SOFT_TISSUE,
    Lpips,
    PerceptualWeightsError,
    find_features,
    measure,
    scores,
)
from man_core.quality.lpips import LAYERS
from man_core.quality.perceptual_weights import FEATURES_VARIABLE

SHAPES = ((64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3))
L096 = "validation/L096"
FEATURES = "perceptual/alexnet_features_fp16.safetensors"


def random_features() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    weights = {}
    for name, (ours, theirs, side) in zip(LAYERS, SHAPES, strict=True):
        spread = (theirs * side * side) ** -0.5
        shape = (ours, theirs, side, side)
        weights[f"{name}.weight"] = torch.randn(shape, generator=generator) * spread
        weights[f"{name}.bias"] = torch.randn(ours, generator=generator) * 0.1
    return weights


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> Lpips:
    """LPIPS on a network of random weights: its arithmetic without the published file."""
    monkeypatch.setattr("man_core.quality.lpips.load_features", lambda path: random_features())
    return Lpips()


def image(noise_hu: float, slices: int = 5) -> NDArray[np.float32]:
    noise = np.random.default_rng(2).normal(0.0, noise_hu, (slices, 64, 64))
    return (np.linspace(-100, 200, 64)[None, None] + noise).astype(np.float32)


def torchmetrics_distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The same distance put together from torch's modules and torchmetrics' pieces."""
    pool, relu = torch.nn.MaxPool2d(3, 2), torch.nn.ReLU()
    geometry = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))
    convolutions = []
    for name, (ours, theirs, side), (stride, padding) in zip(LAYERS, SHAPES, geometry, strict=True):
        layer = torch.nn.Conv2d(theirs, ours, side, stride, padding)
        weights = random_features()
        layer.load_state_dict({k: weights[f"{name}.{k}"] for k in ("weight", "bias")})
        convolutions.append(layer)
    c0, c1, c2, c3, c4 = convolutions
    stages = [[c0, relu], [pool, c1, relu], [pool, c2, relu], [c3, relu], [c4, relu]]
    root = Path(torchmetrics_lpips.__file__).parent / "lpips_models" / "alex.pth"
    heads = sorted(torch.load(root, map_location="cpu", weights_only=True).items())
    ours, theirs = (
        torchmetrics_lpips.ScalingLayer()(v[:, None].repeat(1, 3, 1, 1)) for v in (x, y)
    )
    total = torch.zeros(len(x))
    for stage, (_, head) in zip(stages, heads, strict=True):
        ours, theirs = (torch.nn.Sequential(*stage)(v) for v in (ours, theirs))
        unit = [torchmetrics_lpips._normalize_tensor(v) for v in (ours, theirs)]
        seen = torch.nn.functional.conv2d((unit[0] - unit[1]) ** 2, head)
        total += torchmetrics_lpips._spatial_average(seen).flatten()
    return total


def test_the_arithmetic_is_torchmetrics(untrained: Lpips) -> None:
    generator = torch.Generator().manual_seed(4)
    x, y = torch.rand((2, 3, 96, 96), generator=generator) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(untrained.distance(x, y), torchmetrics_distance(x, y))


def test_equal_images_are_at_distance_zero(untrained: Lpips) -> None:
    assert untrained(image(0.0), image(0.0), SOFT_TISSUE) == 0.0


def test_more_noise_is_further_away(untrained: Lpips) -> None:
    steps = [untrained(image(noise), image(0.0), SOFT_TISSUE) for noise in (5.0, 20.0, 80.0)]
    assert steps == sorted(steps)
    assert steps[0] > 0.0


def test_a_volume_is_the_mean_of_its_slices(untrained: Lpips) -> None:
    result, truth = image(20.0), image(0.0)
    alone = [untrained(x, y, SOFT_TISSUE) for x, y in zip(result, truth, strict=True)]
    assert untrained(result, truth, SOFT_TISSUE) == pytest.approx(np.mean(alone), rel=1e-5)


def test_slices_too_small_for_the_network_are_refused(untrained: Lpips) -> None:
    with pytest.raises(ValueError, match="31 x 31"):
        untrained(np.zeros((30, 64)), np.zeros((30, 64)), SOFT_TISSUE)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "features.safetensors"
    save_file(random_features(), file)
    with pytest.raises(PerceptualWeightsError, match="not a published perceptual network"):
        Lpips(file)


def test_an_absent_file_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAN_LPIPS_WEIGHTS", str(tmp_path / "nothing.pth"))
    with pytest.raises(PerceptualWeightsError, match=r"nothing\.pth cannot be read"):
        Lpips()


def test_without_weights_the_other_scores_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("man_core.quality.perceptual_weights.find_features", lambda: None)
    monkeypatch.setattr(scores, "find_features", lambda: None)
    scores._lpips.cache_clear()
    result = measure(image(20.0), image(0.0))
    scores._lpips.cache_clear()
    assert math.isnan(result.lpips)
    assert result.to_dict()["lpips"] is None
    assert result.psnr_db > 20.0
    with pytest.raises(PerceptualWeightsError, match="MAN_LPIPS_WEIGHTS"):
        Lpips()


def test_nothing_but_the_variable_and_torchs_downloads_is_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_features() is None
    downloads = tmp_path / "hub" / "checkpoints"
    downloads.mkdir(parents=True)
    kept = downloads / "alexnet-owt-7be5be79.pth"
    kept.touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert find_features() == kept
    monkeypatch.setenv(FEATURES_VARIABLE, str(tmp_path / "named"))
    assert find_features() == tmp_path / "named"


def stack(folder: Path) -> NDArray[np.float32]:
    headers = sorted(map(pydicom.dcmread, folder.iterdir()), key=lambda h: h.InstanceNumber)
    return np.stack([h.pixel_array * h.RescaleSlope + h.RescaleIntercept for h in headers])


@pytest.fixture
def published(development_data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """AlexNet's published weights in use."""
    monkeypatch.setenv(FEATURES_VARIABLE, str(development_data / FEATURES))
    scores._lpips.cache_clear()
    yield
    scores._lpips.cache_clear()


@pytest.mark.data
@pytest.mark.usefixtures("published")
@pytest.mark.parametrize(
    ("blur_pixels", "row"), [(0.0, (19.23, 0.694, 0.194)), (0.8, (23.35, 0.718, 0.179))]
)
def test_reference_rows_of_the_real_quarter_dose(
    blur_pixels: float, row: tuple[float, float, float], development_data: Path
) -> None:
    truth, low_dose = (
        stack(development_data / L096 / name) for name in ("full-D45f", "quarter-D45f")
    )
    found = measure(gaussian_filter(low_dose, (0, blur_pixels, blur_pixels)), truth)
    assert (found.psnr_db, found.ssim, found.lpips) == pytest.approx(row, abs=0.005)
    assert (found.ssim, found.lpips) == pytest.approx(row[1:], abs=0.0006)
