"""Sampling steps of a fitted model."""

from __future__ import annotations

from man_core.nets.man import ManConfig

EXPORT_STEPS = 2
"""Sampling steps in the card after stage two (decision 0002)."""

RESTORED_STEPS = 1
"""The same after stage three, which trains the image of the first step (decision 0011)."""

PAPER_STEPS = 30
"""The same if noise or v is predicted, for which few steps do not suffice."""


def card_steps(config: ManConfig, *, restored: bool) -> int:
    """Return the number of sampling steps that a card states.

    Args:
        config: Network.
        restored: Whether the decoded result was compared (stage three).
    """
    if config.diffusion == "residual-shift":
        return config.shift.steps
    few = RESTORED_STEPS if restored else EXPORT_STEPS
    return few if config.prediction in ("x0", "residual") else PAPER_STEPS
