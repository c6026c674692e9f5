"""A model at other positions of its dials, as methods."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from man_core.quality import Window
from man_core.texture import Texture
from training.evaluate.cases import Case
from training.evaluate.methods import Hu, Method


def at_strength(model: Method, strength: float) -> Method:
    """Return a model that makes a share of its change, 0 to 1."""

    def apply(case: Case, window: Window) -> tuple[Hu, float]:
        result, seconds = model.apply(case, window)
        if strength == 1.0:
            return result, seconds
        return case.low.hu + np.float32(strength) * (result - case.low.hu), seconds

    return replace(model, name=f"{model.name}, strength {strength:g}", apply=apply)


def at_gain(model: Method, gain: float) -> Method:
    """Return a model that is told a dose gain; it must be one that can be told."""

    def apply(case: Case, window: Window) -> tuple[Hu, float]:
        if gain == model.dose_gain:
            return model.apply(case, window)  # the result without being told, often known already
        told = replace(case, condition=replace(case.condition, dose_gain=gain))
        return model.apply(told, window)

    return replace(model, name=f"{model.name}, gain {gain:g}", apply=apply)


def with_texture(model: Method, texture: Texture) -> Method:
    """Return a model with another texture than its card's.

    Raises:
        ValueError: The method is no model, or cannot be loaded with another texture.
    """
    if model.textured is None:
        raise ValueError(f"{model.name} has no texture")
    return replace(model.textured(texture), name=f"{model.name}, texture {texture.share:g}")
