"""Phases of a series: several images at each position, distinguished by their headers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.ct.attributes import number, texts
from dicom_node.ct.slices import geometry

PHASE_KEYWORDS: Final = (
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "NominalPercentageOfCardiacPhase",
    "TriggerTime",
    "KVP",
    "ConvolutionKernel",
    "AcquisitionTime",
    "ContentTime",
)
"""Attributes that distinguish phases, the clearest first (PS3.3 C.7.6.1, C.7.6.16.2.7, C.8.2.1)."""


def phases_of(
    images: Sequence[Dataset], places: NDArray[np.float64]
) -> list[NDArray[np.int_]] | None:
    """Sort a series into stacks in which every position occurs once.

    Args:
        images: Headers, in any order.
        places: Position of each along the common normal, mm.

    Returns:
        The indices of the images of each phase, sorted by position; a single phase where all
        positions differ; None where nothing distinguishes the images at one position.
    """
    everything = _sorted(list(range(len(images))), places)
    repeats = _repeats(everything, places)
    if not repeats.any():
        return [everything]
    values = {keyword: [_value(image, keyword) for image in images] for keyword in PHASE_KEYWORDS}
    stacks = (_by_value(values[keyword], places) for keyword in PHASE_KEYWORDS)
    whole = next((phases for phases in stacks if len(phases) == repeats.max() + 1), None)
    if whole is not None:
        return whole
    ranked = (_by_rank(values[keyword], everything, repeats) for keyword in PHASE_KEYWORDS)
    return next((phases for phases in ranked if phases), None)


def _repeats(order: NDArray[np.int_], places: NDArray[np.float64]) -> NDArray[np.int_]:
    """For each image in order, the number of images before it at the same position."""
    repeats = np.zeros(len(order), np.int_)
    for at in range(1, len(order)):
        if places[order[at]] - places[order[at - 1]] <= geometry.POSITION_TOLERANCE_MM:
            repeats[at] = repeats[at - 1] + 1
    return repeats


def _value(image: Dataset, keyword: str) -> tuple[float, str]:
    """A sort key: numeric where the value is a number."""
    amount = number(image, keyword)
    return (0.0 if amount is None else amount), "\\".join(texts(image, keyword))


def _by_value(
    values: Sequence[tuple[float, str]], places: NDArray[np.float64]
) -> list[NDArray[np.int_]]:
    """One phase for each value; empty where a position occurs twice in one of them."""
    groups: dict[tuple[float, str], list[int]] = defaultdict(list)
    for index, value in enumerate(values):
        groups[value].append(index)
    phases = [_sorted(groups[value], places) for value in sorted(groups)]
    return [] if any(_repeats(phase, places).any() for phase in phases) else phases


def _by_rank(
    values: Sequence[tuple[float, str]], order: NDArray[np.int_], repeats: NDArray[np.int_]
) -> list[NDArray[np.int_]]:
    """The first image of each position, the second ...; empty where two have the same value.

    This finds phases in which every image is an acquisition of its own.
    """
    phases: list[list[int]] = [[] for _ in range(int(repeats.max()) + 1)]
    begins = np.append(np.flatnonzero(repeats == 0), len(order))
    for begin, end in pairwise(begins):
        here = sorted(order[begin:end].tolist(), key=lambda index: values[index])
        if len({values[index] for index in here}) < len(here):
            return []
        for rank, index in enumerate(here):
            phases[rank].append(index)
    return [np.array(phase, np.int_) for phase in phases]


def _sorted(indices: list[int], places: NDArray[np.float64]) -> NDArray[np.int_]:
    return np.array(indices, np.int_)[np.argsort(places[indices], kind="stable")]
