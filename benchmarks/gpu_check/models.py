"""Denoisers under check: the shipped MAN, RED-CNN with random weights, and cards of the site."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch

from benchmarks.gpu_check.part import Bench
from man_core import Denoiser, ModelCard, load_denoiser
from man_core.card import Precision
from man_core.nets.redcnn import RedCnn
from man_core.weights import save_weights

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""Every arithmetic that a denoiser can be loaded with; the first is that of the reference."""

SEED = 1
"""Seed of random weights."""

DN_DP = "dn-dp"
"""Method of Dn-Dp, whose published size has no shipped weights."""


@dataclass(frozen=True)
class Variant:
    """A model with its steps, in any arithmetic.

    Attributes:
        name: Name in the table.
        model: Registry name or path of a card.
        steps: Sampling steps; None: those of the card.
    """

    name: str
    model: str
    steps: int | None = None

    def load(self, device: torch.device, precision: Precision) -> Denoiser:
        """Build the denoiser on a device."""
        return load_denoiser(self.model, device=str(device), steps=self.steps, precision=precision)


def variants(bench: Bench) -> list[Variant]:
    """Return the models under check in one pass or few steps."""
    given = [Variant(card.stem, str(card)) for card in bench.cards]
    return [Variant("MAN", "man"), Variant("RED-CNN", str(_random_red_cnn(bench))), *given]


def long_variant(bench: Bench) -> Variant:
    """Return MAN with the long sampling of its paper."""
    steps = bench.preset.long_steps
    return Variant(f"MAN, {steps} steps", "man", steps)


def _random_red_cnn(bench: Bench) -> Path:
    """Write RED-CNN with random weights; return its card."""
    folder = bench.folder
    torch.manual_seed(SEED)
    network = RedCnn(bench.preset.red_cnn)
    sha256 = save_weights(
        folder / "redcnn.safetensors", network.state_dict(), network.config.to_dict()
    )
    card = ModelCard(
        name="redcnn",
        version="random",
        method="redcnn",
        summary="RED-CNN with random weights, for its time.",
        sampler="none",
        steps=0,
        weights_file="redcnn.safetensors",
        weights_sha256=sha256,
    )
    path = folder / "redcnn.json"
    path.write_text(card.to_json(), encoding="utf-8")
    return path


def missing_methods(bench: Bench) -> Iterator[tuple[str, str]]:
    """Yield name and reason of the comparison models that cannot be checked here."""
    if not any(ModelCard.load(card).method == DN_DP for card in bench.cards):
        yield "Dn-Dp", "not run: no weights are shipped; name its card with --cards"
