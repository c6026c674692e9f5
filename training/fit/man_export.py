"""Weights and model card of a fitted MAN."""

from __future__ import annotations

from pathlib import Path

from man_core.card import ModelCard
from man_core.nets.man import ManNetwork, parameter_count
from man_core.weights import save_weights
from training.fit.task import RunFacts

WEIGHTS_FILE = "man.safetensors"
CARD_FILE = "man.json"

EXPORT_STEPS = 2
"""Sampling steps of a fresh card: what served the shipped weights best (decision 0002)."""

INTENDED_USE = (
    "Noise reduction of low-dose CT image series for reading beside the original. "
    "Research use: not a cleared medical device."
)

LIMITS = (
    "Measured on the data named here only; other scanners, kernels and doses need a check by a "
    "physicist.",
    "Contrast near the noise level can be smoothed away; read findings on the original as well.",
)


def export_man(network: ManNetwork, folder: Path, facts: RunFacts) -> Path:
    """Write ``man.safetensors`` and ``man.json`` into a folder; give the card's path."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / WEIGHTS_FILE
    sha256 = save_weights(weights, network.state_dict(), network.config.to_dict())
    card = ModelCard(
        name="man",
        version=sha256[:12],
        method="man",
        summary="MAN, latent diffusion denoising of low-dose CT, compact.",
        weights_file=WEIGHTS_FILE,
        weights_sha256=sha256,
        sampler="ddim",
        steps=EXPORT_STEPS,
        parameters=parameter_count(network),
        trained_on=(
            f"{facts.data}; {facts.steps} steps in {facts.seconds / 60:.0f} min on {facts.hardware}"
        ),
        intended_use=INTENDED_USE,
        limits=LIMITS,
    )
    path = folder / CARD_FILE
    path.write_text(card.to_json(), encoding="utf-8")
    return path
