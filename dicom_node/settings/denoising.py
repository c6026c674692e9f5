"""Settings of the denoising: under ``model`` and ``derived`` in ``node.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dicom_node.settings.sections import Section
from dicom_node.settings.values import DoseGain, Name, NoiseHu, Suffix
from man_core import MIN_DOSE_GAIN


class NoiseWanted(Section):
    """Noise to leave, for a model that can be told; null for the default of its card.

    Attributes:
        dose_gain: As if from so many times the dose.
        target_noise_hu: Standard deviation in soft tissue, from which the dose gain of each series
            follows.
    """

    dose_gain: DoseGain | None = None
    target_noise_hu: NoiseHu | None = None

    @property
    def required_gain(self) -> float | None:
        """A dose gain that the model must be able to be told; None: it need not be told any."""
        return self.dose_gain if self.target_noise_hu is None else MIN_DOSE_GAIN

    @model_validator(mode="after")
    def _wants_one_thing(self) -> Self:
        if self.dose_gain is not None and self.target_noise_hu is not None:
            raise ValueError("give either `dose_gain` or `target_noise_hu`")
        return self


class ModelSettings(NoiseWanted):
    """The denoiser and its parameters; null for the defaults of its model card.

    Attributes:
        precision: Arithmetic of the network; another than the card's gives derived series of
            their own.
    """

    name: Name = "man"
    device: Annotated[str, Field(min_length=1)] = "auto"
    strength: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    steps: Annotated[int, Field(ge=1)] | None = None
    precision: Literal["float32", "tf32", "bfloat16"] | None = None


class DerivedSettings(Section):
    """Attributes of the derived series.

    Attributes:
        description_suffix: Suffix of the Series Description, in which ``{model}``, ``{strength}``
            and ``{dose_gain}`` are filled in.
    """

    series_number_offset: Annotated[int, Field(ge=1)] = 1000
    description_suffix: Suffix = " MAN"
    image_type: Literal["PRIMARY", "SECONDARY"] = "PRIMARY"
    equipment: Literal["standard", "keep_scanner"] = "standard"
