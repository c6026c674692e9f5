"""Interface of every denoising method."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from man_core.card import ModelCard
from man_core.condition import Condition

if TYPE_CHECKING:  # cards and registry are read without loading torch
    import torch

OnStep = Callable[[int, int], None]
"""Callback with (steps done, total steps) of the sampler."""


class Denoiser(Protocol):
    """A denoising method ready to run on a device; HU in, HU out.

    Attributes:
        info: Card of the model.
        device: Device it runs on, for example ``cpu`` or ``cuda``.
        steps: Number of sampling steps.
    """

    info: ModelCard
    device: str
    steps: int

    def denoise(
        self,
        hu: torch.Tensor,
        condition: Condition,
        generator: torch.Generator,
        on_step: OnStep | None = None,
    ) -> torch.Tensor:
        """Denoise slices.

        Args:
            hu: float32 [slice, row, column], HU, on the CPU or on the denoiser's device. A model
                that sees neighbours (``info.context_slices``) gets each slice followed by those
                below and above it [slice, 1 + neighbour, row, column]; without them it takes the
                slice itself in their place.
            condition: Acquisition facts of the scan.
            generator: CPU generator; the same state gives the same result for every slice.
            on_step: Progress callback within the call.

        Returns:
            float32 [slice, row, column], HU, on the device of ``hu``.
        """
        ...

    def slices_at_once(self, rows: int, columns: int) -> int:
        """Return the number of slices of one call.

        On a GPU the same in every run, whatever memory is free (``batches``).
        """
        ...
