"""Batches of crops, the training data of every recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

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
    """

    full: Tensor
    low: Tensor
    dose: Tensor
    position: Tensor
    noise_hu: Tensor

    def to(self, device: torch.device) -> Batch:
        """Copy the batch to a device."""
        return Batch(
            full=self.full.to(device, non_blocking=True),
            low=self.low.to(device, non_blocking=True),
            dose=self.dose.to(device, non_blocking=True),
            position=self.position.to(device, non_blocking=True),
            noise_hu=self.noise_hu.to(device, non_blocking=True),
        )

    def __len__(self) -> int:
        return int(self.full.shape[0])


def joined(batches: Sequence[Batch]) -> Batch:
    """Join batches into one."""
    names = [field.name for field in fields(Batch)]
    return Batch(**{name: torch.cat([getattr(b, name) for b in batches]) for name in names})


class BatchSource(Protocol):
    """Source of batches as a pure function of their index, so that a resumed fit sees the same."""

    def batch(self, index: int) -> Batch:
        """Return batch number ``index``; the same index always gives the same batch."""
        ...
