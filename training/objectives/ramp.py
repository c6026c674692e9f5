"""How the weight of a loss term rises during a fit."""

from __future__ import annotations

PURE_RECONSTRUCTION = 0.05
"""Share of the fit before any ramped term counts (30 of the paper's 600 epochs, reading A8)."""

FULL_WEIGHT = 0.5
"""Share of the fit after which ramped terms have their final weight (300 of 600 epochs)."""


def ramp(progress: float) -> float:
    """0, then linear, then 1, for a progress from 0 to 1 (MAN paper, section 3.2)."""
    rise = (progress - PURE_RECONSTRUCTION) / (FULL_WEIGHT - PURE_RECONSTRUCTION)
    return min(1.0, max(0.0, rise))
