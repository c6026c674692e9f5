"""Several phases in one series: images at equal positions, told apart by their headers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.ct import geometry
from dicom_node.ct.headers import texts

TELLING_APART: Final = (
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "NominalPercentageOfCardiacPhase",
    "TriggerTime",
    "KVP",
    "ConvolutionKernel",
    "AcquisitionTime",
    "ContentTime",
)
"""Attributes by which phases differ, the plainest first (PS3.3 C.7.6.1, C.7.6.16.2.7, C.8.2.1)."""


def phases_of(
    images: Sequence[Dataset], places: NDArray[np.float64]
) -> list[NDArray[np.int_]] | None:
    """Sort a series into stacks in which every position stands once.

    Args:
        images: Headers, in any order.
        places: Place of each along the common normal, mm.

    Returns:
        The images of each phase by index, sorted by place; a single phase where all positions
        differ; None where nothing tells apart the images at one position.
    """
    everything = _sorted(list(range(len(images))), places)
    if _distinct(everything, places):
        return [everything]
    for keyword in TELLING_APART:
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            groups[tuple(texts(image, keyword))].append(index)
        phases = [_sorted(group, places) for group in groups.values()]
        if all(_distinct(phase, places) for phase in phases):
            return phases
    return None


def _sorted(indices: list[int], places: NDArray[np.float64]) -> NDArray[np.int_]:
    return np.array(indices, np.int_)[np.argsort(places[indices], kind="stable")]


def _distinct(phase: NDArray[np.int_], places: NDArray[np.float64]) -> bool:
    return bool((np.diff(places[phase]) > geometry.SAME_POSITION_MM).all())
