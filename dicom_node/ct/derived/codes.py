"""Coded concepts of derived images (PS3.16, annex D).

They are written out because pydicom's dictionary of all concepts takes long to load.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pydicom import Dataset


class Code(NamedTuple):
    """A coded concept.

    Attributes:
        value: Code Value.
        scheme: Coding Scheme Designator.
        meaning: Code Meaning.
    """

    value: str
    scheme: str
    meaning: str


ACQUISITION_EQUIPMENT: Final = Code("109101", "DCM", "Acquisition Equipment")
PROCESSING_EQUIPMENT: Final = Code("109102", "DCM", "Processing Equipment")
SMOOTHING: Final = Code("113087", "DCM", "Smoothing")
SOURCE_IMAGE: Final = Code("121322", "DCM", "Source image for image processing operation")


def code_item(code: Code) -> Dataset:
    """Make an item of a code sequence (PS3.3, table 8.8-1)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme
    item.CodeMeaning = code.meaning
    return item
