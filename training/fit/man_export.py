"""Weights and model card of a fitted MAN."""

from __future__ import annotations

from pathlib import Path

from man_core.card import ModelCard
from man_core.denoisers.latent_sampler import SAMPLERS
from man_core.nets.man import ManConfig, ManNetwork
from training.fit.model_export import export_model
from training.fit.task import RunFacts

EXPORT_STEPS = 2
"""Sampling steps of a fresh card: what served the shipped weights best (decision 0002)."""

PAPER_STEPS = 30
"""The same where noise or v is predicted: few steps are of no use then."""


def export_man(network: ManNetwork, folder: Path, facts: RunFacts) -> Path:
    """Write ``man.safetensors`` and ``man.json`` into a folder; give the card's path."""
    card = ModelCard(
        name="man",
        version="",
        method="man",
        summary="MAN, latent diffusion denoising of low-dose CT, compact.",
        sampler=SAMPLERS[network.config.diffusion][0],
        steps=_steps(network.config),
    )
    return export_model(card, network, network.config.to_dict(), folder, facts)


def _steps(config: ManConfig) -> int:
    if config.diffusion == "residual-shift":
        return config.shift.steps
    return EXPORT_STEPS if config.prediction in ("x0", "residual") else PAPER_STEPS
