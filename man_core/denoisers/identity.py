"""Identity method, for testing routes without a model."""

from __future__ import annotations

from pathlib import Path

import torch

from man_core.card import ModelCard, Precision
from man_core.condition import Condition
from man_core.denoiser import OnStep


class IdentityDenoiser:
    """Returns its input."""

    def __init__(self, card: ModelCard) -> None:
        self.info = card
        self.device = "cpu"
        self.steps = 0

    def denoise(
        self,
        hu: torch.Tensor,
        condition: Condition,
        generator: torch.Generator,
        on_step: OnStep | None = None,
    ) -> torch.Tensor:
        """Return the input [slice, row, column]."""
        return hu

    def slices_at_once(self, rows: int, columns: int) -> int:
        """Return 1: larger batches gain nothing."""
        return 1


def load(
    card: ModelCard, folder: Path, device: str, steps: int | None, precision: Precision
) -> IdentityDenoiser:
    """Build the denoiser; it has no weights and needs no device."""
    return IdentityDenoiser(card)
