"""Detection of invented structure by ring correlation with the low dose (sFRC), and its worth.

Structure is planted in results alone, which is what an invention is; the share of it that the
detector finds says what its silence means.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from man_core import series_seed
from man_core.noise import soft_tissue
from man_core.quality import (
    PATCH_PIXELS,
    SOFT_TISSUE,
    agreement_frequency,
    ring_correlation,
)
from training.assess.finding import Finding
from training.assess.images import CaseResult, Hu

MAX_FLAGGED_FREQUENCY = 0.092
"""Cycles/mm up to which a patch is flagged: the lowest hundredth of patches of results of the model
of weights d570575e at simulated quarter dose (validation split)."""

EXPECTED_SHARE = 0.01
"""Share of patches that this threshold flags without any invention."""

SIZES_MM = (3.0, 5.0, 7.0, 10.0)
CONTRASTS_HU = (20.0, 40.0, 70.0, 100.0)
PLANTS = 100
"""Inventions of each size and contrast planted in a series."""

EDGE_MM = 0.7
"""Width of the edge of discs and vessels."""

MIN_TISSUE_SHARE = 0.5
"""Share of soft tissue in a patch that counts."""

Flags = NDArray[np.bool_]


class _Series(NamedTuple):
    """Patches of one series: result and low dose in the window [patch, row, column], full dose."""

    result: Hu
    low: Hu
    full: Hu
    pixel_mm: float
    seed: int


def invention_findings(outcomes: Sequence[CaseResult]) -> Iterator[Finding]:
    """Report the share of flagged patches and, of planted inventions, the share that is flagged.

    Full dose invents nothing: the share of it that is flagged shows what the method takes for an
    invention although it is none. There is no limit.

    Args:
        outcomes: Cases and the results of the model.
    """
    every = [_patches(outcome) for outcome in outcomes]
    every = [series for series in every if len(series.low)]
    count = sum(len(series.low) for series in every)
    subject = f"{outcomes[0].case.split}, invented structure by sFRC, {count} patches"
    if not every:
        note = "no patch shows soft tissue"
        yield Finding("share of patches flagged", subject, math.nan, note=note)
        return
    own = [_flagged(series.result, series) for series in every]
    full = [_flagged(series.full, series) for series in every]
    highest = max(float(flags.mean()) for flags in own)
    yield Finding(
        "share of patches flagged",
        subject,
        _share(own),
        full_dose=_share(full),
        note=f"{EXPECTED_SHARE:g} expected; at most {highest:.2f} in a series",
    )
    for size in SIZES_MM:
        found = [_share([_planted(each, size, hu) for each in every]) for hu in CONTRASTS_HU]
        pairs = zip(CONTRASTS_HU, found, strict=True)
        yield Finding(
            f"share of inventions of {size:g} mm flagged",
            subject,
            float(np.mean(found)),
            note="; ".join(f"{hu:g} HU {share:.2f}" for hu, share in pairs),
        )


def _patches(outcome: CaseResult) -> _Series:
    case, half = outcome.case, PATCH_PIXELS // 2
    tissue = soft_tissue(case.full)
    slices, rows, columns = case.full.shape
    places = [
        np.s_[index, row : row + PATCH_PIXELS, column : column + PATCH_PIXELS]
        for index, row, column in product(
            range(slices),
            range(0, rows - PATCH_PIXELS + 1, half),
            range(0, columns - PATCH_PIXELS + 1, half),
        )
    ]
    places = [place for place in places if tissue[place].mean() > MIN_TISSUE_SHARE]
    none = np.zeros((0, PATCH_PIXELS, PATCH_PIXELS), dtype=np.float32)
    result, low, full = (
        np.concatenate([none, *(hu[place][None] for place in places)])
        for hu in (outcome.result, case.low.hu, case.full)
    )
    seed = series_seed(case.name, "planted inventions")
    return _Series(result, low, full, case.low.spacing_mm[1], seed)


def _flagged(patches: Hu, series: _Series) -> Flags:
    windowed = [np.clip(hu, *SOFT_TISSUE) for hu in (patches, series.low)]
    correlation = ring_correlation(*windowed)
    return agreement_frequency(correlation, PATCH_PIXELS, series.pixel_mm) <= MAX_FLAGGED_FREQUENCY


def _planted(series: _Series, size_mm: float, contrast_hu: float) -> Flags:
    """Plant inventions of one size and contrast in patches of a result; return their flags."""
    random = np.random.default_rng(series.seed)
    chosen = random.permutation(len(series.low))[:PLANTS]
    shapes = [_shape(random, size_mm, series.pixel_mm) for _ in chosen]
    added = contrast_hu * np.stack(shapes) * random.choice((-1.0, 1.0), (len(chosen), 1, 1))
    kept = series._replace(low=series.low[chosen])
    return _flagged((series.result[chosen] + added).astype(np.float32), kept)


def _shape(random: np.random.Generator, size_mm: float, pixel_mm: float) -> NDArray[np.float64]:
    """Draw a disc, a blob or a vessel near the centre of a patch [row, column]; height 1."""
    reach = PATCH_PIXELS // 8
    centre = PATCH_PIXELS // 2 + random.integers(-reach, reach + 1, 2)
    line = np.arange(PATCH_PIXELS)
    down, across = ((line - at) * pixel_mm for at in centre)
    kind, angle = random.integers(3), random.uniform(0.0, math.pi)
    distance = np.hypot(down[:, None], across[None, :])
    if kind == 0:
        blob: NDArray[np.float64] = np.exp(-4.0 * math.log(2.0) * (distance / size_mm) ** 2)
        return blob
    if kind == 1:
        distance = np.abs(math.cos(angle) * down[:, None] + math.sin(angle) * across[None, :])
    edge: NDArray[np.float64] = np.clip(0.5 + (0.5 * size_mm - distance) / EDGE_MM, 0.0, 1.0)
    return edge


def _share(flags: Sequence[Flags]) -> float:
    return float(np.concatenate(flags).mean())
