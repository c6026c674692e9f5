"""Cases of a noise sweep: full dose with noise added up to stated levels in soft tissue."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from man_core import series_seed
from man_core.noise import estimate_noise_and_texture, noise_hu_per_slice
from man_core.physics.low_dose import (
    MIN_STORED_HU,
    calibrate,
    matched_noise,
    shape_noise,
    tissue_mask,
)
from training.assess.images import Hu
from training.evaluate.cases import Case

LEVELS_HU = (10.0, 20.0, 40.0, 70.0, 110.0, 150.0, 200.0, 250.0, 300.0)
"""Noise in soft tissue: from thick slices at full dose to thin ones of sharp kernels at screening
dose."""

MIN_LEVEL = 1.1
"""Minimum level in units of full dose's own noise. Just above, the added noise is weaker than full
dose's own, whose change then raises the share that is left."""


@dataclass(frozen=True, eq=False)
class Loud:
    """One slice at one level.

    Attributes:
        level_hu: Noise in soft tissue, full dose's own included.
        case: Case with the added noise.
    """

    level_hu: float
    case: Case

    def left(self, result: Hu) -> float:
        """Return the share of the added noise that a result has left, in soft tissue."""
        tissue = tissue_mask(torch.from_numpy(self.case.full)).numpy()
        own, added = ((hu - self.case.full)[tissue].std() for hu in (result, self.case.low.hu))
        return float(own / added)


def louder(case: Case, levels: Sequence[float]) -> Iterator[Loud]:
    """Yield the middle slice of a case at each level that its full dose is quiet enough for.

    The noise has the texture of full dose's own and the same pattern at every level, so that
    levels differ in nothing but loudness.
    """
    middle = len(case.full) // 2
    own = float(noise_hu_per_slice(case.full)[middle])
    full = case.full[middle : middle + 1].copy()
    if own <= 0.0:
        return
    cutoff = estimate_noise_and_texture(case.full).cutoff
    for level in levels:
        if level < MIN_LEVEL * own:
            continue
        volume = replace(case.low, hu=_noisy(full, case, own, level, cutoff))
        dose = (own / level) ** 2
        loud = replace(case, dose=dose, real=False, low=volume, full=full, positions_mm=())
        yield Loud(level, loud)


def _noisy(full: Hu, case: Case, own: float, level: float, cutoff: float) -> Hu:
    generator = torch.Generator().manual_seed(series_seed(case.name, "noise sweep"))
    hu = torch.from_numpy(full)
    noise = matched_noise(
        hu,
        case.low.spacing_mm[2],
        dose=(own / level) ** 2,
        noise_hu=[own],
        cutoff=cutoff,
        generators=[generator],
    )
    added = math.sqrt(level**2 - own**2)
    noise = calibrate(shape_noise(noise, cutoff), tissue_mask(hu), added)
    noisy: Hu = np.maximum((hu + noise).numpy(), np.float32(MIN_STORED_HU))
    return noisy
