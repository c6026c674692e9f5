"""The demo's patient: an analytic phantom, scanned at a quarter of the usual dose."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from man_core.physics.phantom import phantom_series

from man_core import Volume
from man_core.physics.low_dose import insert_noise

Anatomy = Literal["abdomen", "chest", "head"]

DOSE = 0.25
"""Fraction of the usual dose of the simulated scan."""

NOISE_HU = 28.0
"""Noise in soft tissue of the simulated scan: twice that of the median full-dose clinical series,
as at a quarter of the dose the noise doubles."""

TEXTURE = 1.2
"""Spectrum of a standard body kernel; see `man_core.noise_texture`."""

FULL_DOSE_MAS = 200.0


@dataclass(frozen=True)
class Patient:
    """What is known of a simulated patient, and what the scanner sees of it.

    Attributes:
        truth: Without any noise.
        low_dose: The same with the noise of a quarter-dose scan.
    """

    truth: Volume
    low_dose: Volume


def simulate_patient(anatomy: Anatomy, *, slices: int, size: int = 512, seed: int = 0) -> Patient:
    """A phantom and its low-dose scan; the same arguments give the same patient.

    Args:
        anatomy: Which body region.
        slices: How many.
        size: Rows and columns.
        seed: Chooses anatomy and noise.
    """
    truth = phantom_series(anatomy, slices=slices, size=size, seed=seed)
    # The phantom has no noise of its own. insert_noise() adds what separates the dose from full
    # dose, so the full-dose figure is chosen for the sum to be that of the low-dose scan.
    added = insert_noise(
        torch.from_numpy(np.array(truth.hu)),
        truth.spacing_mm[2],
        dose=DOSE,
        noise_hu=NOISE_HU / math.sqrt(1.0 / DOSE - 1.0),
        cutoff=TEXTURE,
        generator=torch.Generator().manual_seed(seed),
    )
    return Patient(truth=truth, low_dose=truth.with_hu(added.numpy()))
