"""Exam that a slice shows (chest, abdomen or head), with its display window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from man_core.quality import ABDOMEN_EXAM, CHEST_EXAM, HEAD_EXAM, Window
from training.evaluate.cases import Case

EXAMS: dict[str, Window] = {"chest": CHEST_EXAM, "abdomen": ABDOMEN_EXAM, "head": HEAD_EXAM}
"""Per-exam windows of ldct-benchmark (Eulig 2024, Med Phys 51:8776), HU."""

HEADS = ("HEAD", "BRAIN", "SKULL", "NECK", "HEADNECK")
"""Values of Body Part Examined that are read in the head window."""

CHEST_LUNG_SHARE = 0.18
"""Share of lung in the body from which a slice shows the chest: agrees with the labels of 350 of
386 slices of the development set (training and validation); the others show the lung bases."""

BLOCK_PIXELS = 4
"""Side of the blocks whose means distinguish tissue from lung without noise."""

TISSUE_ABOVE_HU = -200.0
LUNG_HU: Window = (-960.0, -500.0)


def exam_of(hu: NDArray[np.floating], anatomy: str | None = None) -> str:
    """Return the exam in whose window a slice is read.

    Args:
        hu: Slice [row, column], HU.
        anatomy: Body Part Examined of its series. Only the head is taken from it, since a series
            often extends from the chest into the abdomen under one name.
    """
    if (anatomy or "").upper() in HEADS:
        return "head"
    return "chest" if lung_share(hu) >= CHEST_LUNG_SHARE else "abdomen"


def lung_share(hu: NDArray[np.floating]) -> float:
    """Compute the share of lung in the area enclosed by tissue of a slice [row, column]."""
    rows, columns = (edge // BLOCK_PIXELS for edge in hu.shape)
    kept = hu[: rows * BLOCK_PIXELS, : columns * BLOCK_PIXELS]
    blocks = kept.reshape(rows, BLOCK_PIXELS, columns, BLOCK_PIXELS).mean(axis=(1, 3))
    inside = _enclosed(blocks > TISSUE_ABOVE_HU)
    lung = inside & (blocks > LUNG_HU[0]) & (blocks < LUNG_HU[1])
    return float(lung.sum() / max(inside.sum(), 1))


def _enclosed(tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    seen = np.logical_or.accumulate
    down, up = seen(tissue, 0), seen(tissue[::-1], 0)[::-1]
    right, left = seen(tissue, 1), seen(tissue[:, ::-1], 1)[:, ::-1]
    enclosed: NDArray[np.bool_] = down & up & right & left
    return enclosed


def by_exam(case: Case) -> list[Case]:
    """Split a case into one case for each exam that its slices show."""
    shown = [exam_of(plane, case.condition.anatomy) for plane in case.full]
    parts = {exam: [k for k, name in enumerate(shown) if name == exam] for exam in EXAMS}
    return [_part(case, exam, slices) for exam, slices in parts.items() if slices]


def _part(case: Case, exam: str, slices: Sequence[int]) -> Case:
    if len(slices) == len(case.full):
        return replace(case, exam=exam)
    return replace(case.part(slices), exam=exam)
