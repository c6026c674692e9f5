"""Options of the noise that a denoised series is left with."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.errors import ConfigurationError
from dicom_node.settings import ModelSettings
from dicom_node.work_order import AUTO, DoseGain
from man_core import MAX_DOSE_GAIN, MIN_DOSE_GAIN

if TYPE_CHECKING:
    from dicom_node.denoising.folder import Orders

DoseGainOption = Annotated[
    str | None,
    typer.Option(
        metavar="GAIN|auto",
        help="Noise to leave, as if from so many times the dose (1 to 64), or auto: by the noise"
        " reference; default: the card's.",
    ),
]
TargetNoise = Annotated[
    float | None,
    typer.Option(min=1.0, help="Noise to leave in soft tissue, HU; sets the dose gain."),
]
ReferenceOption = Annotated[
    Path | None,
    typer.Option(help="Noise of full-dose series for --dose-gain auto; see `noise-reference`."),
]


@dataclass(frozen=True)
class NoiseOptions:
    """The options that were given.

    Attributes:
        dose_gain: A number or ``auto``, as text.
        target_noise_hu: Noise to leave, HU.
        reference: File of the noise reference.
    """

    dose_gain: str | None
    target_noise_hu: float | None
    reference: Path | None

    @property
    def given(self) -> bool:
        """Whether they override the noise that rules want."""
        return self.dose_gain is not None or self.target_noise_hu is not None

    def applied_to(self, model: ModelSettings, name: str | None) -> ModelSettings:
        """Return the settings with the model of a name and the noise of these options.

        Raises:
            ConfigurationError: The options contradict each other, or a gain or noise is none.
        """
        from dicom_node.denoising.models import for_model

        named = for_model(model, name or model.name)
        if self.dose_gain is not None and self.target_noise_hu is not None:
            raise ConfigurationError("Give either --dose-gain or --target-noise-hu, not both.")
        if self.target_noise_hu is not None and not math.isfinite(self.target_noise_hu):
            raise ConfigurationError("--target-noise-hu must be a finite number of HU from 1 on.")
        if self.given:
            gain = _gain(self.dose_gain)
            noise = {"dose_gain": gain, "target_noise_hu": self.target_noise_hu}
            named = named.model_copy(update=noise)
        return named

    def with_reference(self, model: ModelSettings) -> ModelSettings:
        """Return the settings with the noise reference of these options, if they name one."""
        if self.reference is None:
            return model
        return model.model_copy(update={"noise_reference": self.reference})

    def judging(self, orders: Orders, model: ModelSettings) -> Orders:
        """Return the orders with the noise reference, if a dose gain follows from it.

        Raises:
            ConfigurationError: It is needed and not named, named and not needed, or unreadable.
            StorageError: The disk, or the system, cannot read it now.
        """
        from dicom_node.denoising.models import noise_reference

        rules = () if self.given else orders.rules
        by_rules = [rule.denoise.dose_gain for rule in rules if rule.denoise]
        if AUTO not in (model.dose_gain, *by_rules):
            if self.reference is not None:
                raise ConfigurationError("--noise-reference is for a dose gain of auto: omit it.")
            return orders
        if model.noise_reference is None:
            raise ConfigurationError(
                "A dose gain of auto needs the file that `dicom-node noise-reference` writes: name"
                " it with --noise-reference, or as `model.noise_reference` in node.yaml."
            )
        auto = model.dose_gain == AUTO
        return replace(orders, auto_gain=auto, reference=noise_reference(model))


def _gain(text: str | None) -> DoseGain:
    if text is None or text == AUTO:
        return AUTO if text else None
    try:
        gain = float(text)
    except ValueError:
        gain = 0.0
    if not MIN_DOSE_GAIN <= gain <= MAX_DOSE_GAIN:
        raise ConfigurationError(
            f"--dose-gain must be auto or a number from {MIN_DOSE_GAIN:g} to {MAX_DOSE_GAIN:g}."
        )
    return gain
