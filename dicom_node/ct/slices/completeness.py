"""Completeness of a series: evidence in its own headers that images are missing.

DICOM has no sign for the end of a series. Silence of the sender is a guess; geometry and the counts
that some senders write are evidence. Proof (a gap, a count of the series itself) is distinguished
from doubt (a count of the acquisition, which may cover several series), because proof decides the
outcome of a series, and doubt only makes it wait longer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.ct.attributes import number, numbers
from dicom_node.ct.scope import reason_unprocessable
from dicom_node.ct.slices import geometry
from dicom_node.ct.slices.gaps import Gap, find_gaps

MAX_NAMED_GAPS: Final = 5
"""Gaps listed one by one; the phrase has to fit into a header."""


@dataclass(frozen=True)
class Completeness:
    """Evidence of missing images; phrases without patient data.

    Attributes:
        missing: Proof that images are missing; empty when there is none.
        doubt: A sign that more images may be on their way; empty when there is none.
    """

    missing: str = ""
    doubt: str = ""


def completeness_of(series: Sequence[Dataset]) -> Completeness:
    """Assess the completeness of a series from its headers.

    A slice missing at either end leaves no gap: only a count can reveal it.

    Args:
        series: The headers of its readable images, in any order.
    """
    images = [header for header in series if _may_be_denoised(header)]
    gaps, uneven = _gaps(images)
    short = _short_series(series)
    proofs = [proof for proof in (short, gaps) if proof]
    doubts = [doubt for doubt in (_short_acquisition(images), uneven) if doubt]
    return Completeness(missing="; ".join(proofs), doubt="; ".join(doubts))


def _may_be_denoised(header: Dataset) -> bool:
    try:
        return reason_unprocessable(header) is None
    except Exception:  # a value of a wrong type can break its converter in any way
        return False


def _gaps(images: Sequence[Dataset]) -> tuple[str, str]:
    """Phrases: the gaps, and a remark on slices without a usual distance."""
    places = _places(images)
    if places is None:
        return "", ""
    found = find_gaps(images, places)
    uneven = "the slices lie at uneven distances" if found.uneven else ""
    return _describe(found.found, images, places), uneven


def _places(images: Sequence[Dataset]) -> NDArray[np.float64] | None:
    """Positions along the common normal, mm; None where the headers do not form one stack."""
    positions = [numbers(image, "ImagePositionPatient") for image in images]
    orientations = [numbers(image, "ImageOrientationPatient") for image in images]
    if not images or {len(one) for one in positions} != {3} or {*map(len, orientations)} != {6}:
        return None
    if np.ptp(np.array(orientations), axis=0).max() > geometry.DIRECTION_TOLERANCE:
        return None
    try:
        return geometry.places_along(np.array(positions), orientations[0])
    except ValueError:
        return None


def _describe(gaps: Sequence[Gap], images: Sequence[Dataset], places: NDArray[np.float64]) -> str:
    if not gaps:
        return ""
    counts = [gap.missing for gap in gaps]
    named = [_place(gap, images, places) for gap in gaps[:MAX_NAMED_GAPS]]
    if len(gaps) > 1:
        named = [f"{place} ({count})" for place, count in zip(named, counts, strict=False)]
    further = len(gaps) - len(named)
    more = f" and at {further} more place{'s' * (further > 1)}" if further else ""
    verb = "slices are" if sum(counts) > 1 else "slice is"
    return f"{sum(counts)} {verb} missing {', '.join(named)}{more}"


def _place(gap: Gap, images: Sequence[Dataset], places: NDArray[np.float64]) -> str:
    before, after = (number(images[at], "InstanceNumber") for at in (gap.before, gap.after))
    if before is None or after is None:
        below = int(np.count_nonzero(places <= places[gap.before]))
        return f"after slice {below} of {len(images)}"
    first, second = sorted((before, after))
    return f"between images {first:.0f} and {second:.0f}"


def _short_series(series: Sequence[Dataset]) -> str:
    """Number of Series Related Instances (0020,1209) counts exactly this series (PS3.4 C.3.4)."""
    stated = _stated(series, "NumberOfSeriesRelatedInstances")
    if stated is None or stated <= len(series):
        return ""
    return f"{len(series)} of {stated} images have come (NumberOfSeriesRelatedInstances)"


def _short_acquisition(images: Sequence[Dataset]) -> str:
    """Images in Acquisition (0020,1002) may count other reconstructions too (PS3.3 C.7.6.1.1)."""
    by_acquisition: dict[float | None, list[Dataset]] = defaultdict(list)
    for image in images:
        by_acquisition[number(image, "AcquisitionNumber")].append(image)
    for acquired in by_acquisition.values():
        stated = _stated(acquired, "ImagesInAcquisition")
        if stated is not None and stated > len(acquired):
            return f"{len(acquired)} of {stated} images have come (ImagesInAcquisition)"
    return ""


def _stated(images: Sequence[Dataset], keyword: str) -> int | None:
    """A count on which all images agree, if it is at least 1."""
    counts = {number(image, keyword) for image in images}
    stated = counts.pop() if len(counts) == 1 else None
    return int(stated) if stated is not None and stated >= 1 else None
