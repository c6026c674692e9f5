"""Batches of crops, the training data of every recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Crops of full-dose slices and their low-dose partners in HU.

    Attributes:
        full: float32 [batch, 1, row, column], full-dose crop.
        low: float32 [batch, 1, row, column], the same crop at low dose (simulated or real).
        dose: float32 [batch], dose of ``low`` as a fraction of full dose; 1 where ``low`` is
            ``full``.
        position: float32 [batch, 4], (top, left, bottom, right) of the crop as a fraction of its
            slice, for the position embedding; it includes flips and rotations.
        noise_hu: float32 [batch], standard deviation of the noise in ``low`` in soft tissue, HU.
        neighbours: float32 [batch, neighbour, row, column], the same crop of the slices beside each
            at the same low dose, with noise of their own; ``low`` itself where there is none. None
            unless the recipe has ``context_slices``.
    """

    full: Tensor
    low: Tensor
    dose: Tensor
    position: Tensor
    noise_hu: Tensor
    neighbours: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Copy the batch to a device."""
        moved: dict[str, Any] = {
            name: None if value is None else value.to(device, non_blocking=True)
            for name, value in vars(self).items()
        }
        return Batch(**moved)

    def __len__(self) -> int:
        return int(self.full.shape[0])


def joined(batches: Sequence[Batch]) -> Batch:
    """Join batches into one."""
    whole: dict[str, Any] = {}
    for name in (field.name for field in fields(Batch)):
        values = [getattr(batch, name) for batch in batches]
        whole[name] = None if values[0] is None else torch.cat(values)
    return Batch(**whole)


class BatchSource(Protocol):
    """Source of batches as a pure function of their index, so that a resumed fit sees the same."""

    def batch(self, index: int) -> Batch:
        """Return batch number ``index``; the same index always gives the same batch."""
        ...
