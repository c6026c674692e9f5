"""Noise left and detectability at each setting, on the phantom of water and rods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from man_core.physics.phantom.rods import PIXEL_MM, uniform_water
from man_core.quality import NoisePower, difference_noise_power
from training.assess.images import Hu, apply
from training.assess.phantom import Rods, noise_share, observed
from training.evaluate.methods import Method


@dataclass(frozen=True)
class WaterScores:
    """Scores on the phantom, whose truth is known; NaN if not measured.

    Attributes:
        noise_left: Noise of the result over that of the low dose, in water.
        detectability: Detectability d' of the faint disc of ``training.assess``.
    """

    noise_left: float = math.nan
    detectability: float = math.nan


def water_scores(methods: Sequence[Method], rods: Rods) -> list[WaterScores]:
    """Measure methods on the phantom, each first without the signals and then all with them.

    Raises:
        TrainingError: A model failed.
    """
    absent = [apply(method, rods.case) for method in methods]
    present = [apply(method, rods.with_signals) for method in methods]
    low = _noise(rods.case.low.hu, rods)
    return [
        WaterScores(noise_share(_noise(without, rods), low), observed(with_signals, without))
        for without, with_signals in zip(absent, present, strict=True)
    ]


def _noise(hu: Hu, rods: Rods) -> NoisePower:
    within = np.broadcast_to(uniform_water(), rods.truth.shape)
    return difference_noise_power(hu - rods.truth, PIXEL_MM, within)
