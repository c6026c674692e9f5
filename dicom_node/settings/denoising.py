"""Settings of the denoising: under ``model`` and ``derived`` in ``node.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from dicom_node.settings.sections import Section
from dicom_node.settings.values import DoseGainOrAuto, Name, NoiseHu, Suffix
from dicom_node.work_order import AUTO
from man_core import MIN_DOSE_GAIN

NO_REFERENCE: Final = (
    "`dose_gain: auto` needs `model.noise_reference` in node.yaml, name there the file that"
    " `dicom-node noise-reference` writes"
)


class NoiseWanted(Section):
    """Noise to leave, for a model that can be told; null for the default of its card.

    Attributes:
        dose_gain: As if from so many times the dose; ``auto``: from as many as the noise of the
            series says, against that of the site's full-dose series.
        target_noise_hu: Standard deviation in soft tissue, from which the dose gain of each series
            follows.
    """

    dose_gain: DoseGainOrAuto | None = None
    target_noise_hu: NoiseHu | None = None

    @property
    def required_gain(self) -> float | None:
        """A dose gain that the model must be able to be told; None: it need not be told any."""
        if self.target_noise_hu is not None or self.dose_gain == AUTO:
            return MIN_DOSE_GAIN
        return self.dose_gain

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
        noise_reference: Noise of the site's full-dose series, for a dose gain that is ``auto``; a
            file that ``dicom-node noise-reference`` writes.
    """

    name: Name = "man"
    device: Annotated[str, Field(min_length=1)] = "auto"
    strength: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    steps: Annotated[int, Field(ge=1)] | None = None
    precision: Literal["float32", "tf32", "bfloat16"] | None = None
    noise_reference: Path | None = None

    @model_validator(mode="after")
    def _auto_has_its_reference(self) -> Self:
        if self.dose_gain == AUTO and self.noise_reference is None:
            raise ValueError(NO_REFERENCE)
        return self


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
