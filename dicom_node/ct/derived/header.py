"""Copy of a source header for a derived image, without elements that no longer hold."""

from __future__ import annotations

import copy
from typing import Final

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag
from pydicom.valuerep import VR

from dicom_node.ct.derived.transcoding import to_explicit_little_endian, vr_of

_OUTDATED: Final = (
    "InstanceCreationDate",
    "InstanceCreationTime",
    "InstanceCreatorUID",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "HistogramSequence",
    "IconImageSequence",
    "OriginalAttributesSequence",
    "MACParametersSequence",
    "EncryptedAttributesSequence",
)
"""Attributes of the source's own pixels, bytes and creation."""

_DROPPED_GROUPS: Final = (0x7FE0, 0xFFFA, 0xFFFC)
"""Pixel data, digital signatures, trailing padding."""

_NOT_DATA: Final = (0x0000, 0x0002, 0x0004, 0x0006, 0xFFFE)
"""Groups of commands, file meta information, directory records and delimiters."""

_VRS: Final = frozenset(VR)

_OVERLAY_GROUPS: Final = range(0x6000, 0x6100, 2)
_OVERLAY_DATA: Final = 0x3000


def copy_header(header: Dataset) -> Dataset:
    """Copy a source header without elements that no longer hold for derived pixels.

    Private elements are removed, since vendors describe their pixels there. The values of the
    others remain the source's bytes, in Explicit VR Little Endian.
    """
    kept = _copy(header)
    for keyword in _OUTDATED:
        if keyword in kept:
            delattr(kept, keyword)
    for tag in _tags(kept):
        if _describes_old_pixels(tag, kept):
            del kept[tag]
    _clean(kept)
    to_explicit_little_endian(kept)
    return kept


def _copy(header: Dataset) -> Dataset:
    """Copy a data set deeply; an element that has not been decoded cannot change, and is shared."""
    kept = Dataset(
        {
            tag: element if isinstance(element, RawDataElement) else copy.deepcopy(element)
            for tag in _tags(header)
            if (element := header.get_item(tag)) is not None
        }
    )
    implicit, little = header.original_encoding
    kept.set_original_encoding(implicit, little, header.original_character_set)
    return kept


def _describes_old_pixels(tag: BaseTag, dataset: Dataset) -> bool:
    if tag.group in _OVERLAY_GROUPS:  # without data of its own: it was in the pixels' unused bits
        return (tag.group, _OVERLAY_DATA) not in dataset
    return tag.group in _DROPPED_GROUPS


def _clean(dataset: Dataset) -> None:
    for tag in _tags(dataset):
        if _has_no_place(tag) or not _is_usable(tag, dataset):
            del dataset[tag]
        elif vr_of(tag, dataset) == "SQ" and dataset[tag].VR == "SQ":
            for item in dataset[tag].value:
                _clean(item)


def _has_no_place(tag: BaseTag) -> bool:
    return tag.is_private or tag.element == 0 or tag.group in _NOT_DATA


def _is_usable(tag: BaseTag, dataset: Dataset) -> bool:
    vr = vr_of(tag, dataset)
    if vr is not None and vr not in _VRS:
        return False
    return vr != "SQ" or _converts(tag, dataset)


def _converts(tag: BaseTag, dataset: Dataset) -> bool:
    try:
        return dataset[tag] is not None
    except Exception:  # whatever a value of a wrong type does to its converter
        return False


def _tags(dataset: Dataset) -> list[BaseTag]:
    return list(dataset.keys())
