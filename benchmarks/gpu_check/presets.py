"""Sizes of the checks: for a GPU in four minutes, and tiny for a CPU in a test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from man_core.nets.ddpm_unet import DdpmUnetConfig
from man_core.nets.redcnn import RedCnnConfig


@dataclass(frozen=True)
class Preset:
    """Sizes of the checks.

    Attributes:
        seconds: Time for everything; the parts share it.
        size: Rows and columns of a slice.
        batches: Slices at once, in rising order.
        series: Slices of the series.
        compared: Slices that are compared with the CPU.
        long_steps: Steps of the long sampling.
        rounds: Timed calls for each figure.
        red_cnn: Network of RED-CNN.
        ddpm: Network of the DDPM in pixels.
        ddpm_batches: Slices at once of the DDPM.
        ddpm_steps: Steps of the DDPM that are run.
        recipes: Recipes that are fitted, in this order; see ``fitting``.
        fit_steps: Optimiser steps of each.
        fit_batch: Crops in a step; None: the recipe's own number.
        set_slices: Slices of each of the two series of the training set.
        set_size: Rows and columns of these slices.
        max_memory_slices: Most slices in the call whose memory is measured.
    """

    seconds: float
    size: int
    batches: tuple[int, ...]
    series: int
    compared: int
    long_steps: int
    rounds: int
    red_cnn: RedCnnConfig
    ddpm: DdpmUnetConfig
    ddpm_batches: tuple[int, ...]
    ddpm_steps: int
    recipes: tuple[str, ...]
    fit_steps: int
    fit_batch: int | None
    set_slices: int
    set_size: int
    max_memory_slices: int


FULL = Preset(
    seconds=220.0,  # the start of the program and its report take some more
    size=512,
    batches=(1, 4, 16, 46),
    series=300,
    compared=2,
    long_steps=30,
    rounds=3,
    red_cnn=RedCnnConfig(),
    ddpm=DdpmUnetConfig(),
    ddpm_batches=(1, 4),
    ddpm_steps=20,
    recipes=("man-autoencoder", "man-diffusion", "man-restoration", "redcnn"),
    fit_steps=200,
    fit_batch=64,
    set_slices=2,
    set_size=384,
    max_memory_slices=256,
)

TINY = Preset(
    seconds=240.0,
    size=64,
    batches=(1, 2, 3),
    series=4,
    compared=1,
    long_steps=2,
    rounds=1,
    red_cnn=RedCnnConfig(channels=8, kernel=3),
    ddpm=DdpmUnetConfig(channels=32, multipliers=(1, 2), attention=(1,)),
    ddpm_batches=(1,),
    ddpm_steps=2,
    recipes=("man-autoencoder-tiny", "man-diffusion-tiny", "man-restoration-tiny", "redcnn-tiny"),
    fit_steps=4,
    fit_batch=None,
    set_slices=1,
    set_size=64,
    max_memory_slices=2,
)

PRESETS: Mapping[str, Preset] = {"full": FULL, "tiny": TINY}
"""Presets by name."""
