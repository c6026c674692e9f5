"""Image quality in stated windows; torch is loaded only for LPIPS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from man_core.quality.continuity import BetweenSlices, between_slice_energy, between_slices
from man_core.quality.detectability import (
    channel_responses,
    detectability,
    dog_channels,
    gabor_channels,
    laguerre_gauss_channels,
)
from man_core.quality.lesions import (
    LOST_SHARE,
    InsertedLesion,
    LesionTrial,
    judge_lesions,
    paint_lesions,
    plan_lesions,
)
from man_core.quality.metrics import change_over_noise, hu_bias, psnr, rmse_hu, ssim
from man_core.quality.noise_power import (
    NoisePower,
    difference_noise_power,
    noise_power,
    tissue_noise_power,
)
from man_core.quality.perceptual_weights import PerceptualWeightsError, find_features
from man_core.quality.ring_correlation import (
    PATCH_PIXELS,
    agreement_frequency,
    ring_correlation,
)
from man_core.quality.scores import Scores, measure
from man_core.quality.task_transfer import TaskTransfer, task_transfer
from man_core.quality.uniform_tissue import uniform_tissue
from man_core.quality.windows import (
    ABDOMEN_EXAM,
    CHEST_EXAM,
    HEAD_EXAM,
    LUNG,
    SOFT_TISSUE,
    TISSUES,
    Window,
    dicom_window,
    to_unit,
)

if TYPE_CHECKING:
    from man_core.quality.lpips import Lpips

__all__ = [
    "ABDOMEN_EXAM",
    "CHEST_EXAM",
    "HEAD_EXAM",
    "LOST_SHARE",
    "LUNG",
    "PATCH_PIXELS",
    "SOFT_TISSUE",
    "TISSUES",
    "BetweenSlices",
    "InsertedLesion",
    "LesionTrial",
    "Lpips",
    "NoisePower",
    "PerceptualWeightsError",
    "Scores",
    "TaskTransfer",
    "Window",
    "agreement_frequency",
    "between_slice_energy",
    "between_slices",
    "change_over_noise",
    "channel_responses",
    "detectability",
    "dicom_window",
    "difference_noise_power",
    "dog_channels",
    "find_features",
    "gabor_channels",
    "hu_bias",
    "judge_lesions",
    "laguerre_gauss_channels",
    "measure",
    "noise_power",
    "paint_lesions",
    "plan_lesions",
    "psnr",
    "ring_correlation",
    "rmse_hu",
    "ssim",
    "task_transfer",
    "tissue_noise_power",
    "to_unit",
    "uniform_tissue",
]


def __getattr__(name: str) -> object:
    if name == "Lpips":
        from man_core.quality.lpips import Lpips

        return Lpips
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
