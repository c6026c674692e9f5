"""Weights and model card of a fitted MAN."""

from __future__ import annotations

from pathlib import Path

from man_core.card import ModelCard
from man_core.nets.man import ManNetwork
from training.fit.model_export import export_model
from training.fit.task import RunFacts

EXPORT_STEPS = 2
"""Sampling steps of a fresh card: what served the shipped weights best (decision 0002)."""


def export_man(network: ManNetwork, folder: Path, facts: RunFacts) -> Path:
    """Write ``man.safetensors`` and ``man.json`` into a folder; give the card's path."""
    card = ModelCard(
        name="man",
        version="",
        method="man",
        summary="MAN, latent diffusion denoising of low-dose CT, compact.",
        sampler="ddim",
        steps=EXPORT_STEPS,
    )
    return export_model(card, network, network.config.to_dict(), folder, facts)
