"""What is compared: the untouched low dose, the best blur, and models."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from man_core import (
    Denoiser,
    ModelError,
    denoise_volume,
    find_model,
    load_denoiser,
    series_seed,
)
from man_core.card import NO_SAMPLER
from man_core.device import choose_device
from man_core.quality import Window
from training.errors import TrainingError
from training.evaluate.cases import Case
from training.evaluate.ceiling import Reconstruction
from training.evaluate.classical import FILTERS
from training.fit.run import export
from training.fit.state import RECIPE_FILE

Hu = NDArray[np.float32]

LOW_DOSE = "low dose"
BEST_GAUSSIAN = "best Gaussian"


@dataclass(frozen=True)
class Method:
    """A row of the table before it is measured.

    Attributes:
        name: What the row is called.
        weights_sha256: Of the model's weights; empty for what has none.
        steps: Sampling steps; 0 for what does not sample.
        apply: Gives HU [slice, row, column] and seconds for a case in a window.
        sampler: Of the model; empty for what does not sample.
        device: Where it runs.
    """

    name: str
    weights_sha256: str
    steps: int
    apply: Callable[[Case, Window], tuple[Hu, float]]
    sampler: str = ""
    device: str = "cpu"


CLASSICAL = {name: Method(name, "", 0, apply) for name, apply in FILTERS.items()}
"""Methods that are not fitted, by the name of their row."""


def methods_of(
    models: Sequence[str],
    *,
    device: str = "auto",
    steps: Sequence[int] = (),
    samplers: Sequence[str] = (),
    gaussian: bool = False,
    classical: bool = False,
    ceiling: bool = False,
) -> list[Method]:
    """Low dose first, then what is not fitted, then each model with each sampler and step count.

    A model that does not sample has one row.

    Args:
        models: Registry names, paths to cards, or folders of runs or of exported models.
        device: Where models run.
        steps: Sampling steps; empty takes the card's.
        samplers: Names of samplers; empty takes the card's.
        gaussian: Whether to add the Gaussian blur with the best PSNR of each case.
        classical: Whether to add every method of ``CLASSICAL``, that blur among them.
        ceiling: Whether to add what each model's autoencoder makes of the full dose.

    Raises:
        TrainingError: A model cannot be loaded, or has no autoencoder.
    """
    methods = [untouched()]
    if gaussian or classical:
        methods += CLASSICAL.values() if classical else [CLASSICAL[BEST_GAUSSIAN]]
    for model in models:
        methods += _sampled(model, device, samplers, steps)
        if ceiling:
            methods.append(ceiling_method(model, device=device))
    return methods


def _sampled(
    model: str, device: str, samplers: Sequence[str], steps: Sequence[int]
) -> Iterator[Method]:
    """A row for each sampler and step count; one for a model that has neither."""
    names: list[str | None] = [*samplers] or [None]
    counts: list[int | None] = [*steps] or [None]
    plain = model_method(model, device=device)
    if plain.sampler == NO_SAMPLER or not (samplers or steps):
        yield plain
        return
    for name, count in product(names, counts):
        yield model_method(model, device=device, sampler=name, steps=count)


def untouched() -> Method:
    """The low dose as it is: the row beside which every other stands."""
    return Method(LOW_DOSE, "", 0, lambda case, _window: (case.low.hu, 0.0))


@contextmanager
def located(name: str) -> Iterator[str]:
    """What the registry understands: a run is exported for the time of the block.

    Args:
        name: Registry name, path to a card, or folder of a run or of an exported model.

    Raises:
        TrainingError: The run cannot be exported.
    """
    path = Path(name)
    if (path / RECIPE_FILE).is_file():
        with tempfile.TemporaryDirectory() as folder:
            yield str(export(path, Path(folder)))
    elif path.is_dir() and (cards := sorted(path.glob("*.json"))):
        yield str(cards[0])
    else:
        yield name


def model_method(
    name: str,
    *,
    device: str = "auto",
    steps: int | None = None,
    sampler: str | None = None,
    row: str | None = None,
) -> Method:
    """The row of a model.

    Args:
        name: Registry name, path to a card, or folder of a run or of an exported model.
        device: Where it runs.
        steps: Sampling steps; None takes the card's.
        sampler: Name of the sampler; None takes the card's.
        row: What the row is called; None takes the card's name.

    Raises:
        TrainingError: The model cannot be loaded.
    """
    try:
        with located(name) as model:
            denoiser = load_denoiser(model, device=device, steps=steps, sampler=sampler)
    except ModelError as error:
        raise TrainingError(str(error)) from error
    info, apply = denoiser.info, _Denoising(denoiser)
    sha256, title = info.weights_sha256, row or info.name
    return Method(title, sha256, denoiser.steps, apply, info.sampler, denoiser.device)


def ceiling_method(name: str, *, device: str = "auto", row: str | None = None) -> Method:
    """The row of full dose through a model's autoencoder alone.

    Raises:
        TrainingError: The model cannot be loaded, or has no autoencoder.
    """
    try:
        with located(name) as model:
            card, folder = find_model(model)
            through = Reconstruction(card, folder, device)
    except ModelError as error:
        raise TrainingError(str(error)) from error
    title, used = row or f"{card.name} ceiling", str(choose_device(device))
    return Method(title, card.weights_sha256, 0, through, device=used)


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
