"""Denoisers with a known effect, in place of a model."""

from __future__ import annotations

import torch

from man_core import Condition, ModelCard


class ShiftingDenoiser:
    """Adds a number of HU to every pixel, or another number to those of air.

    Attributes:
        seen: What it was given, call by call.
    """

    def __init__(self, by_hu: float, air_hu: float | None = None) -> None:
        self.info = ModelCard(name="shift", version="1", method="shift", summary="adds HU")
        self.device, self.steps = "cpu", 1
        self.by_hu, self.air_hu = by_hu, by_hu if air_hu is None else air_hu
        self.seen: list[torch.Tensor] = []

    def denoise(
        self,
        hu: torch.Tensor,
        condition: Condition,
        generator: torch.Generator,
        on_step: object = None,
    ) -> torch.Tensor:
        self.seen.append(hu)
        return hu + torch.where(hu < -900, self.air_hu, self.by_hu)

    def slices_at_once(self, rows: int, columns: int) -> int:
        return 4


class SeededDenoiser:
    """Adds noise that depends on the seed alone, the same to each slice.

    Attributes:
        calls: Number of batches so far.
    """

    def __init__(self, at_once: int = 2) -> None:
        self.info = ModelCard(name="seeded", version="1", method="seeded", summary="adds noise")
        self.device, self.steps, self.calls = "cpu", 1, 0
        self._at_once = at_once

    def denoise(
        self,
        hu: torch.Tensor,
        condition: Condition,
        generator: torch.Generator,
        on_step: object = None,
    ) -> torch.Tensor:
        self.calls += 1
        return hu + 5.0 * torch.randn(hu.shape[1:], generator=generator).exp()

    def slices_at_once(self, rows: int, columns: int) -> int:
        return self._at_once
