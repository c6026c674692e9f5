"""The patient of the demonstration: an analytic phantom at a quarter of the usual dose."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from man_core import Volume, insert_noise, phantom_lesions, phantom_series

Anatomy = Literal["abdomen", "chest", "head"]

DOSE = 0.25
"""Dose of the simulated scan as a fraction of the usual dose."""

NOISE_HU = 28.0
"""Noise in soft tissue of the simulated scan: twice that of the median clinical full-dose series,
since noise doubles at a quarter of the dose."""

TEXTURE = 1.2
"""Spectrum of a standard body kernel; see `man_core.noise_texture`."""

FULL_DOSE_MAS = 200.0


@dataclass(frozen=True)
class Patient:
    """A simulated patient, with and without noise.

    Attributes:
        truth: Without any noise.
        low_dose: The same with the noise of a quarter-dose scan.
        lesion: Slice, row and column of the visible lesion of lowest contrast.
    """

    truth: Volume
    low_dose: Volume
    lesion: tuple[int, int, int]


def simulate_patient(
    anatomy: Anatomy,
    *,
    slices: int,
    size: int = 512,
    seed: int = 0,
    on_slice: Callable[[int, int], None] | None = None,
) -> Patient:
    """Simulate a phantom and its low-dose scan; the same arguments give the same patient.

    Args:
        anatomy: Body region.
        slices: Number of slices.
        size: Number of rows and columns.
        seed: Seed of anatomy and noise.
        on_slice: Called with (done, total) while the scan is simulated.
    """
    truth = phantom_series(anatomy, slices=slices, size=size, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    noisy = np.empty_like(truth.hu)
    for index, hu in enumerate(truth.hu):
        noisy[index] = insert_noise(
            torch.from_numpy(hu[None].copy()),
            truth.spacing_mm[1],
            dose=DOSE,
            # The phantom has no noise of its own, and insert_noise() adds what separates the dose
            # from full dose: this full-dose figure makes the sum that of the low-dose scan.
            noise_hu=NOISE_HU / math.sqrt(1.0 / DOSE - 1.0),
            cutoff=TEXTURE,
            generator=generator,
            electronic=0.0,
        )[0].numpy()
        if on_slice is not None:
            on_slice(index + 1, slices)
    return Patient(truth=truth, low_dose=truth.with_hu(noisy), lesion=_lesion(anatomy, truth))


def _lesion(anatomy: Anatomy, truth: Volume) -> tuple[int, int, int]:
    """Position of the lesion of lowest contrast; the middle of a series without lesions."""
    to_index = np.linalg.inv(truth.affine)
    found = []
    for lesion in phantom_lesions(anatomy):
        at = (to_index @ (*lesion.at, 1.0)).tolist()
        place = (round(at[0]), round(at[1]), round(at[2]))
        if all(0 <= here < size for here, size in zip(place, truth.shape, strict=True)):
            found.append((abs(lesion.hu - lesion.background_hu), place))
    slices, rows, columns = truth.shape
    middle = (slices // 2, rows // 2, columns // 2)
    return min(found, default=(0.0, middle))[1]
