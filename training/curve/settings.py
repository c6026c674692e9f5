"""Settings of a model's dials, each as a method: gains; strengths and textures at the default."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from man_core.texture import Texture
from training.evaluate.dials import at_gain, at_strength, with_texture
from training.evaluate.methods import Method, untouched


class Dial(StrEnum):
    """Value by which a user decides how much noise is left."""

    NONE = "untouched"
    GAIN = "gain"
    STRENGTH = "strength"
    TEXTURE = "texture"


@dataclass(frozen=True)
class Setting:
    """A model at one position of one dial.

    Attributes:
        model: Name of the model; ``low dose`` for the untouched image.
        dial: The dial.
        value: Its position; 0 for the untouched image.
        method: The model at this position.
    """

    model: str
    dial: Dial
    value: float
    method: Method


def low_dose_setting() -> Setting:
    """Return the untouched low dose."""
    method = untouched()
    return Setting(method.name, Dial.NONE, 0.0, method)


def settings_of(
    model: Method,
    gains: Sequence[float],
    strengths: Sequence[float],
    textures: Sequence[Texture] = (),
) -> Iterator[Setting]:
    """Yield the settings of a model, strengths and the default gain first.

    These need its network once for each case.

    Args:
        model: Model.
        gains: Dose gains; left out for a model that cannot be told them.
        strengths: Strengths, 0 to 1, at the default dose gain.
        textures: Textures instead of the card's, at the default dose gain and full strength.
    """
    for strength in strengths:
        yield Setting(model.name, Dial.STRENGTH, strength, at_strength(model, strength))
    for texture in textures if model.textured else ():
        yield Setting(model.name, Dial.TEXTURE, texture.share, with_texture(model, texture))
    if model.dose_gain is None:
        return
    for gain in sorted(gains, key=lambda gain: (gain != model.dose_gain, gain)):
        yield Setting(model.name, Dial.GAIN, gain, at_gain(model, gain))
