"""Fitting: some steps of each recipe with random initial weights on a small generated set."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.ct_series import write_phantom
from benchmarks.gpu_check.models import SEED
from benchmarks.gpu_check.part import Bench, Figure
from benchmarks.gpu_check.presets import Preset
from benchmarks.gpu_check.targets import FIT_STEP
from training.data.prepare import prepare
from training.data.simulate import simulate
from training.data.splits import split_by_name
from training.fit.loop import OnStep
from training.fit.run import FitOptions, fit
from training.settings import Recipe, load_recipe

INITIAL: Mapping[str, str] = {
    "man-diffusion": "man-autoencoder",
    "man-restoration": "man-diffusion",
    "man-diffusion-tiny": "man-autoencoder-tiny",
    "man-restoration-tiny": "man-diffusion-tiny",
}
"""Recipe whose run each of these starts from; the others start from random weights."""

RESTORATION = "man-restoration"
"""Recipe of the step that has a bar, 64 crops of 160 x 160 pixels; or its tiny counterpart."""

VGG16 = ((0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256), (12, 256, 256),
         (14, 256, 256))  # fmt: skip
"""Convolutions of VGG-16 up to relu3_3, the feature distance of restoration: index in torchvision's
``features``, input and output channels (Simonyan and Zisserman 2015)."""

WARM_UP_SHARE = 0.2
"""Share of the steps before the timed ones."""

PATIENTS = 2


def figures(bench: Bench) -> Iterator[Figure]:
    """Yield the time of a step for each recipe, and of the simulation of noise."""
    begin = time.perf_counter()
    data = _training_set(bench)
    slices = PATIENTS * bench.preset.set_slices
    yield Figure("set made and its noise simulated", time.perf_counter() - begin, "s",
                 note=f"{slices} slices of {bench.preset.set_size}²")  # fmt: skip
    for name in bench.preset.recipes:
        bench.budget.check()
        recipe = _recipe(name, bench)
        clock = _Clock(recipe)
        initial = INITIAL.get(name)
        run = fit(recipe, _options(bench, data, name, initial), clock.display)
        yield from clock.figures(name, run.skipped)
        yield from _journalled(bench.folder / name, name)


def _journalled(run: Path, name: str) -> Iterator[Figure]:
    """Yield the share of time without data, where the journal of this version has it."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    if lines and (share := json.loads(lines[-1]).get("data_wait_share")) is not None:
        yield Figure(f"{name}: waiting for data, share of the last steps", share)


def _training_set(bench: Bench) -> Path:
    root, preset = bench.folder / "set", bench.preset
    scans = [
        write_phantom(bench.folder / f"scan{n}", preset.set_slices, size=preset.set_size, seed=n)
        for n in range(PATIENTS)
    ]
    prepare([files[0].parent for files in scans], root, split_by_name("train"))
    simulate(root, device=str(bench.device))
    return root


def _options(bench: Bench, data: Path, name: str, initial: str | None) -> FitOptions:
    return FitOptions(
        data=data,
        run=_new(bench.folder / name),
        init=bench.folder / initial if initial else None,
        max_minutes=max(bench.budget.left, 1.0) / 60,
        device=str(bench.device),
    )


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _recipe(name: str, bench: Bench) -> Recipe:
    """Return a recipe with the steps and batch of the preset and no validation."""
    preset: Preset = bench.preset
    values: dict[str, Any] = load_recipe(name).model_dump(mode="json")
    values["fit"]["steps"] = preset.fit_steps
    values["validation"]["batches"] = 0
    values["journal"]["save_seconds"] = 3600.0
    values["journal"]["log_every"] = min(values["journal"]["log_every"], preset.fit_steps)
    if preset.fit_batch is not None:
        values["data"]["batch"] = preset.fit_batch
    if values["objective"].get("restoration") is not None:
        weights = _random_vgg(bench.folder / "vgg16.safetensors")
        values["objective"]["restoration"] |= {
            "feature_weights": str(weights), "feature_crops": values["data"]["batch"],
        }  # fmt: skip
    return Recipe.model_validate(values)


def _random_vgg(path: Path) -> Path:
    """Write random weights of VGG-16; they take as long as fitted ones."""
    random = torch.Generator().manual_seed(SEED)
    tensors = {}
    for index, channels_in, channels in VGG16:
        scale = (2.0 / (9 * channels_in)) ** 0.5
        kernel = scale * torch.randn(channels, channels_in, 3, 3, generator=random)
        tensors[f"features.{index}.weight"] = kernel
        tensors[f"features.{index}.bias"] = torch.zeros(channels)
    save_file(tensors, path)
    return path


class _Clock:
    """Times the steps of a fit after some for warm-up."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._warm = max(1, int(recipe.fit.steps * WARM_UP_SHARE))
        self._begin = self._end = 0.0
        self._steps = 0

    @contextmanager
    def display(self, _title: str) -> Iterator[OnStep]:
        """Yield the callback of the loop."""

        def on_step(step: int, _progress: float, _scalars: dict[str, float]) -> None:
            # Its loss terms have been read, so the device has done the step.
            self._steps, self._end = step, time.perf_counter()
            if step == self._warm:
                self._begin = self._end

        yield on_step

    def figures(self, name: str, skipped: int) -> Iterator[Figure]:
        """Yield the time of a step and the steps a second."""
        timed, crop = self._steps - self._warm, self._recipe.data
        if timed < 1:
            yield Figure(f"{name}: a step", None, "ms", note="no time for enough steps")
            return
        step = (self._end - self._begin) / timed
        what = f"{crop.batch} crops of {crop.crop}²"
        yield Figure(f"{name}: a step", 1000 * step, "ms", note=what)
        if name.startswith(RESTORATION):
            yield Figure(FIT_STEP, 1000 * step, "ms", note=what)
        yield Figure(f"{name}: steps a second", 1 / step)
        yield Figure(f"{name}: steps skipped", skipped, passed=skipped == 0)
