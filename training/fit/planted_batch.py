"""Batches with planted lesions."""

from __future__ import annotations

from dataclasses import replace

import torch

from training.data.batch import Batch
from training.objectives.lesions import Lesions, planted_beside


def planted(batch: Batch, lesions: Lesions, generator: torch.Generator) -> Batch:
    """Add lesions to full and low dose alike, and to the slices beside."""
    beside = batch.neighbours
    if beside is not None:
        beside = planted_beside(beside, batch.low, lesions, generator)
    low, full = batch.low + lesions.hu, batch.full + lesions.hu
    return replace(batch, full=full, low=low, neighbours=beside)
