"""The core: CT volumes in HU, denoisers, diffusion, dose physics and image quality.

Public interface of the package. Names that need torch are loaded at first use, so that a process
which only reads cards (the receiver, the help of the command line) stays small.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from man_core.card import NO_SAMPLER, Measurement, ModelCard
from man_core.condition import Condition
from man_core.context import Neighbours, neighbours_of
from man_core.denoise_report import DenoiseReport
from man_core.denoiser import Denoiser
from man_core.diffusion.names import SAMPLERS
from man_core.dose_gain import MAX_DOSE_GAIN, MIN_DOSE_GAIN, gain_for_noise
from man_core.errors import ModelError, Stopped
from man_core.guard import Check, Finding, GuardLimits, Limit, Verdict
from man_core.hu import HuRange
from man_core.noise_reference import (
    MIN_PATIENTS,
    NoiseReference,
    ReferenceCell,
    SeriesNoise,
    learn_reference,
)
from man_core.registry import find_model, list_models, load_denoiser, namesake
from man_core.seeding import series_seed
from man_core.volume import Volume

if TYPE_CHECKING:
    from man_core.noise import NoiseSample, noise_hu, sampled_slices
    from man_core.physics.low_dose import insert_noise
    from man_core.physics.phantom.series import phantom_lesions, phantom_series
    from man_core.pipeline import denoise_stream, denoise_volume
    from man_core.quality import SOFT_TISSUE, hu_bias, measure
    from man_core.uncertainty import UncertaintySummary, spread_over_seeds, stream_spread_over_seeds

__all__ = [
    "MAX_DOSE_GAIN",
    "MIN_DOSE_GAIN",
    "MIN_PATIENTS",
    "NO_SAMPLER",
    "SAMPLERS",
    "SOFT_TISSUE",
    "Check",
    "Condition",
    "DenoiseReport",
    "Denoiser",
    "Finding",
    "GuardLimits",
    "HuRange",
    "Limit",
    "Measurement",
    "ModelCard",
    "ModelError",
    "Neighbours",
    "NoiseReference",
    "NoiseSample",
    "ReferenceCell",
    "SeriesNoise",
    "Stopped",
    "UncertaintySummary",
    "Verdict",
    "Volume",
    "denoise_stream",
    "denoise_volume",
    "find_model",
    "gain_for_noise",
    "hu_bias",
    "insert_noise",
    "learn_reference",
    "list_models",
    "load_denoiser",
    "measure",
    "namesake",
    "neighbours_of",
    "noise_hu",
    "phantom_lesions",
    "phantom_series",
    "sampled_slices",
    "series_seed",
    "spread_over_seeds",
    "stream_spread_over_seeds",
]

_LOADED_AT_FIRST_USE = {
    "NoiseSample": "man_core.noise",
    "SOFT_TISSUE": "man_core.quality",
    "UncertaintySummary": "man_core.uncertainty",
    "denoise_stream": "man_core.pipeline",
    "denoise_volume": "man_core.pipeline",
    "hu_bias": "man_core.quality",
    "insert_noise": "man_core.physics.low_dose",
    "measure": "man_core.quality",
    "noise_hu": "man_core.noise",
    "phantom_lesions": "man_core.physics.phantom.series",
    "phantom_series": "man_core.physics.phantom.series",
    "sampled_slices": "man_core.noise",
    "spread_over_seeds": "man_core.uncertainty",
    "stream_spread_over_seeds": "man_core.uncertainty",
}
"""Module of each name that is loaded at first use."""


def __getattr__(name: str) -> object:
    if name in _LOADED_AT_FIRST_USE:
        return getattr(import_module(_LOADED_AT_FIRST_USE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
