"""Units of rescaled pixel values (PS3.3 C.11.1.1.2): Hounsfield units in all their spellings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.errors import NotForUs

UNSPECIFIED: Final = "US"
"""Rescale Type of values whose unit is not stated."""

AIR_BAND_HU: Final = (-1100.0, -900.0)
"""Range of air in an axial CT image, including noise and clipping at -1024 HU."""

MIN_AIR_SHARE: Final = 0.01
"""Share of the pixels that is air in any axial CT image."""

MAX_SHARE_BELOW_AIR: Final = 0.01
"""Share of the pixels that may lie below air, such as metal streaks; nothing in a patient does."""

_HOUNSFIELD: Final = re.compile(r"HU|HUMOD|HOUN?D?SFIE?LDS?(UNITS?)?|HNSFU", re.ASCII)
"""Spellings found in files, letters only; HU_MOD is a defined term."""


def is_hounsfield(rescale_type: str) -> bool:
    """Whether a Rescale Type (0028,1054) means Hounsfield units; an absent one does in CT."""
    letters = re.sub(r"[^A-Z]", "", rescale_type.upper())
    return not rescale_type.strip() or _HOUNSFIELD.fullmatch(letters) is not None


def is_unspecified(header: Dataset) -> bool:
    """Whether the header leaves the unit open."""
    return str(header.get("RescaleType") or "").strip() == UNSPECIFIED


def check_unspecified(header: Dataset, hu: NDArray[np.float32], padding: NDArray[np.bool_]) -> None:
    """Check by the position of air that values of unspecified unit are Hounsfield units.

    Args:
        header: Of one slice.
        hu: [row, column], rescaled values.
        padding: Same shape, True where the scanner had no data.

    Raises:
        NotForUs: Air does not lie near -1000.
    """
    if is_unspecified(header) and not _has_air(hu[~padding]):
        raise NotForUs(
            "The unit of the pixel values is unspecified (Rescale Type US) and air does not lie "
            "near -1000, so they cannot be taken for HU."
        )


def unspecified_remark(headers: Sequence[Dataset]) -> str:
    """Return a report's remark on values taken for HU; empty where every slice states its unit."""
    if not any(map(is_unspecified, headers)):
        return ""
    return (
        "the unit of the pixel values is unspecified (Rescale Type US); they were taken for HU, "
        "for air lies near -1000"
    )


def _has_air(values: NDArray[np.float32]) -> bool:
    if values.size == 0:
        return True  # nothing but padding, which stays as it is
    low, high = AIR_BAND_HU
    air = np.mean((values >= low) & (values <= high))
    return bool(air >= MIN_AIR_SHARE and np.mean(values < low) <= MAX_SHARE_BELOW_AIR)
