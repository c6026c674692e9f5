"""What of a source header may go into a derived one, element by element."""

from __future__ import annotations

import copy
from typing import Final

from pydicom import Dataset
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.tag import BaseTag

_NO_LONGER_TRUE: Final = (
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

_OVERLAY_GROUPS: Final = range(0x6000, 0x6100, 2)
_OVERLAY_DATA: Final = 0x3000


def kept_of(header: Dataset) -> Dataset:
    """A copy of a source header without what is no longer true of derived pixels.

    Private elements go, since vendors describe their pixels there. Values that stay are kept as the
    source's bytes where possible; one that breaks its own type and must be encoded anew is dropped.
    """
    kept = copy.deepcopy(header)
    for keyword in _NO_LONGER_TRUE:
        if keyword in kept:
            delattr(kept, keyword)
    for tag in _tags(kept):
        if _describes_old_pixels(tag, kept):
            del kept[tag]
    explicit_little_endian = header.original_encoding == (False, True)
    _clean(kept, encode_anew=not explicit_little_endian)
    return kept


def _describes_old_pixels(tag: BaseTag, dataset: Dataset) -> bool:
    if tag.group in _OVERLAY_GROUPS:  # without data of its own, it lay in the pixels' unused bits
        return (tag.group, _OVERLAY_DATA) not in dataset
    return tag.group in _DROPPED_GROUPS


def _clean(dataset: Dataset, *, encode_anew: bool) -> None:
    for tag in _tags(dataset):
        if tag.is_private or tag.element == 0:
            del dataset[tag]
        elif _is_sequence(tag, dataset):
            for item in dataset[tag].value:
                _clean(item, encode_anew=encode_anew)
        elif encode_anew and not _is_convertible(tag, dataset):
            del dataset[tag]


def _is_sequence(tag: BaseTag, dataset: Dataset) -> bool:
    element = dataset.get_item(tag)
    vr = getattr(element, "VR", None)
    if vr in (None, "UN") and dictionary_has_tag(tag):
        vr = dictionary_VR(tag)
    return vr == "SQ" and dataset[tag].VR == "SQ"


def _is_convertible(tag: BaseTag, dataset: Dataset) -> bool:
    try:
        return dataset[tag] is not None
    except Exception:  # whatever a value of a wrong type does to its converter
        return False


def _tags(dataset: Dataset) -> list[BaseTag]:
    return list(dataset.keys())
