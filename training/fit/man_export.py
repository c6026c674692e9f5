"""Weights and model card of a fitted MAN."""

from __future__ import annotations

from pathlib import Path

from man_core.card import ModelCard
from man_core.denoisers.latent_sampler import SAMPLERS
from man_core.nets.man import ManConfig, ManNetwork
from training.fit.task import RunFacts
from training.fit.tasks.export import export_model

EXPORT_STEPS = 2
"""Sampling steps of a fresh card after stage two (decision 0002)."""

RESTORED_STEPS = 1
"""The same after stage three, which fits the image of the first step (decision 0011)."""

PAPER_STEPS = 30
"""The same where noise or v is predicted: few steps are of no use then."""


def export_man(
    network: ManNetwork, folder: Path, facts: RunFacts, *, restored: bool = False
) -> Path:
    """Write ``man.safetensors`` and ``man.json`` into a folder; give the card's path.

    Args:
        network: What was fitted.
        folder: Where to.
        facts: Of the fit.
        restored: Whether the decoded result was compared with full dose (stage three).
    """
    card = ModelCard(
        name="man",
        version="",
        method="man",
        summary="MAN, latent diffusion denoising of low-dose CT, compact.",
        sampler=SAMPLERS[network.config.diffusion][0],
        steps=_steps(network.config, restored),
    )
    return export_model(card, network, network.config.to_dict(), folder, facts)


def _steps(config: ManConfig, restored: bool) -> int:
    if config.diffusion == "residual-shift":
        return config.shift.steps
    few = RESTORED_STEPS if restored else EXPORT_STEPS
    return few if config.prediction in ("x0", "residual") else PAPER_STEPS
