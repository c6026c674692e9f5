"""What is compared: the untouched low dose, the best blur, and models."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from man_core import Denoiser, ModelError, denoise_volume, load_denoiser, series_seed
from man_core.quality import Window
from training.errors import TrainingError
from training.evaluate.cases import Case
from training.fit.state import RECIPE_FILE

Hu = NDArray[np.float32]

LOW_DOSE = "low dose"
GAUSSIAN_PIXELS = tuple(round(0.1 * tenth, 1) for tenth in range(4, 21))


@dataclass(frozen=True)
class Method:
    """A row of the table before it is measured; gives HU and seconds for a case."""

    name: str
    weights_sha256: str
    steps: int
    apply: Callable[[Case, Window], tuple[Hu, float]]


def methods_of(
    models: Sequence[str],
    *,
    device: str = "auto",
    steps: Sequence[int] = (),
    gaussian: bool = False,
) -> list[Method]:
    """Low dose first, then the best Gaussian when asked for, then each model with each step count.

    Args:
        models: Registry names, paths to cards, or folders of runs or of exported models.
        device: Where models run.
        steps: Sampling steps; empty takes the card's.
        gaussian: Whether to add the Gaussian blur with the best PSNR of each case.

    Raises:
        TrainingError: A model cannot be loaded.
    """
    methods = [Method(LOW_DOSE, "", 0, lambda case, _window: (case.low.hu, 0.0))]
    if gaussian:
        methods.append(Method("best Gaussian", "", 0, _best_gaussian))
    counts: list[int | None] = [*steps] or [None]
    for name in models:
        for count in counts:
            denoiser = load_model(name, device, count)
            info = denoiser.info
            apply = _Denoising(denoiser)
            methods.append(Method(info.name, info.weights_sha256, denoiser.steps, apply))
    return methods


def load_model(name: str, device: str, steps: int | None) -> Denoiser:
    """A denoiser by registry name, card, folder of an exported model or folder of a run.

    Raises:
        TrainingError: It cannot be loaded.
    """
    path = Path(name)
    try:
        if (path / RECIPE_FILE).is_file():
            return _load_run(path, device, steps)
        if path.is_dir() and (cards := sorted(path.glob("*.json"))):
            return load_denoiser(str(cards[0]), device=device, steps=steps)
        return load_denoiser(name, device=device, steps=steps)
    except ModelError as error:
        raise TrainingError(str(error)) from error


def _load_run(run: Path, device: str, steps: int | None) -> Denoiser:
    from training.fit.run import export

    with tempfile.TemporaryDirectory() as folder:
        return load_denoiser(str(export(run, Path(folder))), device=device, steps=steps)


class _Denoising:
    """Denoises each case once, however many windows are measured."""

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser = denoiser
        self._case: Case | None = None
        self._result: tuple[Hu, float] | None = None

    def __call__(self, case: Case, _window: Window) -> tuple[Hu, float]:
        if self._result is None or case is not self._case:
            seed = series_seed(case.name, self._denoiser.info.digest)
            volume, report = denoise_volume(case.low, self._denoiser, case.condition, seed=seed)
            self._case, self._result = case, (volume.hu, report.seconds)
        return self._result


def _best_gaussian(case: Case, window: Window) -> tuple[Hu, float]:
    """The blur whose PSNR is highest on this case: chosen on the truth, so a bound for blurs."""
    blurred = [gaussian_blur(case.low.hu, sigma) for sigma in GAUSSIAN_PIXELS]
    errors = [_error(hu, case.full, window) for hu in blurred]
    return blurred[int(np.argmin(errors))], 0.0


def _error(hu: Hu, full: Hu, window: Window) -> float:
    difference = np.clip(hu, *window) - np.clip(full, *window)
    return float(np.mean(np.log(np.mean(difference.astype(np.float64) ** 2, axis=(1, 2)))))


def gaussian_blur(hu: Hu, sigma: float) -> Hu:
    """Blur [slice, row, column] within slices; sigma in pixels."""
    radius = int(np.ceil(3 * sigma))
    line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    line = (line / line.sum()).to(torch.float32)
    image = functional.pad(torch.from_numpy(hu.copy())[:, None], [radius] * 4, mode="replicate")
    image = functional.conv2d(image, line[None, None, :, None])
    blurred: Hu = functional.conv2d(image, line[None, None, None, :])[:, 0].numpy()
    return blurred
