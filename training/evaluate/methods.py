"""Methods to evaluate: the untouched low dose, classical filters and models."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
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
from man_core.texture import Texture
from training.errors import RecipeError, TrainingError
from training.evaluate.cases import Case
from training.evaluate.ceiling import Reconstruction
from training.evaluate.classical import FILTERS
from training.evaluate.denoised_folder import DenoisedFolder, is_denoised_folder
from training.fit.export import write_model
from training.fit.state import RECIPE_FILE

Hu = NDArray[np.float32]

LOW_DOSE = "low dose"
BEST_GAUSSIAN = "best Gaussian"


@dataclass(frozen=True)
class Method:
    """A method, one row of a table.

    Attributes:
        name: Name of the row.
        weights_sha256: Hash of the weights; empty without weights.
        steps: Sampling steps; 0 without sampling.
        apply: Maps a case and a window to HU [slice, row, column] and seconds.
        sampler: Sampler of the model; empty without sampling.
        device: Device it runs on.
        dose_gain: Dose gain by default; None: it cannot be told one.
        textured: Loads the same model with another texture; None for a method that is no model.
        results: Folder of denoised images; None for a method that computes its results.
    """

    name: str
    weights_sha256: str
    steps: int
    apply: Callable[[Case, Window], tuple[Hu, float]]
    sampler: str = ""
    device: str = "cpu"
    dose_gain: float | None = None
    textured: Callable[[Texture], Method] | None = None
    results: DenoisedFolder | None = None

    @property
    def files_sha256(self) -> str:
        """Hash of the images of a folder of results; empty for other methods."""
        return "" if self.results is None else self.results.files_sha256

    @property
    def source_sha256(self) -> str:
        """Hash of what makes its results: weights, or files of results; empty without either."""
        return self.weights_sha256 or self.files_sha256


CLASSICAL = {name: Method(name, "", 0, apply) for name, apply in FILTERS.items()}
"""Methods without training, by the name of their row."""


def methods_of(
    models: Sequence[str],
    *,
    rows: Sequence[str] = (),
    device: str = "auto",
    steps: Sequence[int] = (),
    samplers: Sequence[str] = (),
    gaussian: bool = False,
    classical: bool = False,
    ceiling: bool = False,
) -> list[Method]:
    """List low dose, classical methods, and each model with each sampler and number of steps.

    A model that does not sample has one row.

    Args:
        models: Registry names, paths to cards, folders of runs, of exported models or of denoised
            images.
        rows: Names of the rows of the folders of denoised images; of further ones, the folder's.
        device: Device of the models.
        steps: Sampling steps; empty takes the card's.
        samplers: Names of samplers; empty takes the card's.
        gaussian: Whether to add the Gaussian blur with the best PSNR of each case.
        classical: Whether to add all methods of ``CLASSICAL``, which include that blur.
        ceiling: Whether to add the reconstruction of full dose by each model's autoencoder.

    Raises:
        TrainingError: A model cannot be loaded or has no autoencoder, or images cannot be read.
        RecipeError: A folder of denoised images has a name that another row has.
    """
    methods = [untouched()]
    if gaussian or classical:
        methods += CLASSICAL.values() if classical else [CLASSICAL[BEST_GAUSSIAN]]
    names = iter(rows)
    for model in models:
        if is_denoised_folder(model):
            methods.append(results_method(Path(model), row=next(names, None)))
            continue
        methods += _sampled(model, device, samplers, steps)
        if ceiling:
            methods.append(ceiling_method(model, device=device))
    if next(names, None) is not None:
        raise RecipeError("There are more names of rows than folders of denoised images.")
    _refuse_common_names(methods)
    return methods


def _refuse_common_names(methods: Sequence[Method]) -> None:
    """Raise if a folder of results has a name that another row has."""
    count = Counter(method.name for method in methods)
    for method in methods:
        if method.results is not None and count[method.name] > 1:
            raise RecipeError(
                f"Two rows would be named {method.name!r}: name the folder of denoised images"
                " otherwise with --row."
            )


def _sampled(
    model: str, device: str, samplers: Sequence[str], steps: Sequence[int]
) -> Iterator[Method]:
    """Yield a row for each sampler and number of steps; one for a model that does not sample."""
    names: list[str | None] = [*samplers] or [None]
    counts: list[int | None] = [*steps] or [None]
    plain = model_method(model, device=device)
    if plain.sampler == NO_SAMPLER or not (samplers or steps):
        yield plain
        return
    for name, count in product(names, counts):
        yield model_method(model, device=device, sampler=name, steps=count)


def untouched() -> Method:
    """Return the untouched low dose, the reference row of every table."""
    return Method(LOW_DOSE, "", 0, lambda case, _window: (case.low.hu, 0.0))


def results_method(folder: Path, *, row: str | None = None) -> Method:
    """Return a folder of denoised images as a method.

    Args:
        folder: Folder of DICOM images, made by any program.
        row: Name of the row; None takes the folder's.

    Raises:
        TrainingError: It holds no CT image, or one that cannot be read in HU.
    """
    results = DenoisedFolder(folder)

    def apply(case: Case) -> tuple[Hu, float]:
        return results(case), 0.0

    return Method(row or folder.resolve().name, "", 0, _Once(apply), results=results)


@contextmanager
def located(name: str) -> Iterator[str]:
    """Resolve a model to a name or card path for the registry; export a run temporarily.

    Args:
        name: Registry name, path to a card, or folder of a run or of an exported model.

    Raises:
        TrainingError: The run cannot be exported.
    """
    path = Path(name)
    if (path / RECIPE_FILE).is_file():
        with tempfile.TemporaryDirectory() as folder:
            yield str(write_model(path, Path(folder)))
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
    texture: Texture | None = None,
) -> Method:
    """Load a model as a method.

    Args:
        name: Registry name, path to a card, or folder of a run, of an exported model or of denoised
            images, whose method has neither device nor steps, sampler or texture.
        device: Device it runs on.
        steps: Sampling steps; None takes the card's.
        sampler: Name of the sampler; None takes the card's.
        row: Name of the row; None takes the card's.
        texture: Fine noise that results keep; None takes the card's.

    Raises:
        TrainingError: The model cannot be loaded.
    """
    if is_denoised_folder(name):
        return results_method(Path(name), row=row)
    chosen = partial(model_method, name, device=device, steps=steps, sampler=sampler, row=row)
    try:
        with located(name) as model:
            denoiser = load_denoiser(
                model, device=device, steps=steps, sampler=sampler, texture=texture
            )
    except ModelError as error:
        raise TrainingError(str(error)) from error
    info, apply = denoiser.info, _Once(partial(_denoised, denoiser))
    sha256, title = info.weights_sha256, row or info.name
    method = Method(
        title, sha256, denoiser.steps, apply, info.sampler, denoiser.device, info.dose_gain
    )
    return replace(method, textured=lambda kept: chosen(texture=kept))


def ceiling_method(name: str, *, device: str = "auto", row: str | None = None) -> Method:
    """Return the reconstruction of full dose by the autoencoder of a model as a method.

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


def _denoised(denoiser: Denoiser, case: Case) -> tuple[Hu, float]:
    seed = series_seed(case.name, denoiser.info.digest)
    volume, report = denoise_volume(
        case.low, denoiser, case.condition, seed=seed, neighbours=case.neighbours
    )
    return volume.hu, report.seconds


class _Once:
    """A method that computes the result of each case once, for any number of windows.

    Args:
        result_of: Maps a case to HU [slice, row, column] and seconds.
    """

    def __init__(self, result_of: Callable[[Case], tuple[Hu, float]]) -> None:
        self._result_of = result_of
        self._case: Case | None = None
        self._result: tuple[Hu, float] | None = None

    def __call__(self, case: Case, _window: Window) -> tuple[Hu, float]:
        if self._result is None or case is not self._case:
            self._case, self._result = None, self._result_of(case)
            self._case = case
        return self._result
