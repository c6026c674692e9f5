"""What a simulated patient tells of a model, its truth being known."""

from __future__ import annotations

from man_core import Condition
from man_core.physics.phantom import low_dose_phantom
from training.evaluate.cases import Case

PHANTOM_SLICES = 5
PHANTOM_NOISE_HU = 14.0
"""Noise of the phantom's full dose: the median of clinical series."""

PHANTOM_CUTOFF = 1.2
"""Texture of a standard abdominal kernel, see `man_core.noise_texture`."""


def phantom_case(dose: float) -> Case:
    """A simulated abdomen at low dose, neighbouring slices."""
    pair = low_dose_phantom(
        "abdomen",
        dose=dose,
        noise_hu=PHANTOM_NOISE_HU,
        cutoff=PHANTOM_CUTOFF,
        slices=PHANTOM_SLICES,
    )
    condition = Condition(anatomy="ABDOMEN", thickness_mm=pair.full.spacing_mm[0])
    known = ("phantom", "abdomen", "simulated")
    return Case(*known, dose, False, pair.low, pair.full.hu, condition, "abdomen")
