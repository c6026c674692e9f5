"""The core: CT volumes in HU, denoisers, diffusion, dose physics and image quality.

This is its front door. Names that need torch are loaded when they are first used, so that a
process which only reads cards (the receiver, the command line's help) stays small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from man_core.card import Measurement, ModelCard
from man_core.condition import Condition
from man_core.denoiser import Denoiser
from man_core.errors import ModelError, Stopped
from man_core.guard import Check, Finding, GuardLimits, Limit, Verdict
from man_core.hu import HuRange
from man_core.registry import find_model, list_models, load_denoiser
from man_core.seeding import series_seed
from man_core.volume import Volume

if TYPE_CHECKING:
    from man_core.pipeline import DenoiseReport, denoise_volume
    from man_core.uncertainty import UncertaintySummary, spread_over_seeds

__all__ = [
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
    "Stopped",
    "UncertaintySummary",
    "Verdict",
    "Volume",
    "denoise_volume",
    "find_model",
    "list_models",
    "load_denoiser",
    "series_seed",
    "spread_over_seeds",
]


def __getattr__(name: str) -> Any:
    if name in ("DenoiseReport", "denoise_volume"):
        from man_core import pipeline

        return getattr(pipeline, name)
    if name in ("UncertaintySummary", "spread_over_seeds"):
        from man_core import uncertainty

        return getattr(uncertainty, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
