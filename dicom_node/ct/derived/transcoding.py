"""Transcoding of data sets to Explicit VR Little Endian, value bytes kept (PS3.5 7.1, annex A).

Values are not decoded and encoded again: text that is invalid in its declared character set, and
numbers that are no numbers, remain as the source wrote them. Only words of more than one byte are
swapped where the source is big endian.
"""

from __future__ import annotations

from typing import Any, Final

from pydicom import Dataset
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import BaseTag

from dicom_node.ct.attributes import number

_WORD_BYTES: Final = {
    "AT": 2, "OW": 2, "SS": 2, "US": 2,
    "FL": 4, "OF": 4, "OL": 4, "SL": 4, "UL": 4,
    "FD": 8, "OD": 8, "OV": 8, "SV": 8, "UV": 8,
}  # fmt: skip
"""Word size of the VRs whose byte order follows the transfer syntax (PS3.5 7.3)."""

_UNDEFINED_LENGTH: Final = 0xFFFF_FFFF
_LUT_DATA: Final = 0x0028_3006
_VOI_LUT_SEQUENCE: Final = 0x0028_3010
_SIGNED_PIXELS: Final = 1


def vr_of(tag: BaseTag, dataset: Dataset, *, signed: bool = False) -> str | None:
    """Return the VR that the file states, or the dictionary's where it states none (PS3.6).

    Args:
        tag: An element of the data set.
        dataset: The data set, or an item of one.
        signed: Whether pixels are signed, which settles "US or SS".
    """
    stated = getattr(dataset.get_item(tag, keep_deferred=True), "VR", None)
    if stated in (None, "UN") and dictionary_has_tag(tag):
        stated = dictionary_VR(tag)
    return stated if stated is None or " or " not in stated else _resolved_vr(tag, dataset, signed)


def to_explicit_little_endian(dataset: Dataset) -> None:
    """Convert a data set that was read to Explicit VR Little Endian, in place.

    An element that cannot be converted is removed: a sequence that cannot be read, or words that
    are cut off in a big endian source.
    """
    if dataset.original_encoding != (False, True):
        signed = number(dataset, "PixelRepresentation") == _SIGNED_PIXELS
        _transcode(dataset, signed, signed or (number(dataset, "RescaleIntercept") or 0) < 0)


def _transcode(dataset: Dataset, signed: bool, rescaled_signed: bool) -> None:
    """Convert the elements; the VOI LUT maps rescaled values (PS3.3 C.11.2.1.1)."""
    implicit, little = dataset.original_encoding
    for tag in list(dataset.keys()):
        vr = vr_of(tag, dataset, signed=signed) if implicit else _stated(tag, dataset)
        if vr == "SQ":
            inner = rescaled_signed if tag == _VOI_LUT_SEQUENCE else signed
            _transcode_items(dataset, tag, inner, rescaled_signed)
        else:
            _put(dataset, tag, vr or "UN", swap=little is False)
    dataset.set_original_encoding(False, True, dataset.original_character_set)


def _stated(tag: BaseTag, dataset: Dataset) -> str | None:
    return getattr(dataset.get_item(tag, keep_deferred=True), "VR", None)


def _transcode_items(dataset: Dataset, tag: BaseTag, signed: bool, rescaled_signed: bool) -> None:
    try:
        for item in dataset[tag].value:
            _transcode(item, signed, rescaled_signed)
    except Exception:  # a damaged sequence breaks its reader in any way
        del dataset[tag]


def _put(dataset: Dataset, tag: BaseTag, vr: str, *, swap: bool) -> None:
    element: Any = dataset.get_item(tag)
    word = _WORD_BYTES.get(vr, 1) if swap else 1
    if isinstance(element, DataElement):  # decoded already; the writer encodes all but bytes
        element.VR = vr
        if isinstance(element.value, bytes):
            element.value = _swapped(element.value, word)
        return
    value = element.value or b""
    if len(value) % word:
        del dataset[tag]
        return
    dataset[tag] = RawDataElement(
        tag=tag,
        VR=vr,
        length=element.length if element.length == _UNDEFINED_LENGTH else len(value),
        value=_swapped(value, word),
        value_tell=element.value_tell,
        is_implicit_VR=False,
        is_little_endian=True,
    )


def _swapped(value: bytes, word: int) -> bytes:
    """The bytes of each word in reverse order."""
    swapped = bytearray(len(value))
    for place in range(word):
        swapped[place::word] = value[word - 1 - place :: word]
    return bytes(swapped)


def _resolved_vr(tag: BaseTag, dataset: Dataset, signed: bool) -> str:
    """The VR of an ambiguous dictionary entry (PS3.5 annex A.1, PS3.3 C.11.1.1.1)."""
    choice = dictionary_VR(tag)
    if tag == _LUT_DATA:
        return "US" if len(getattr(dataset.get_item(tag), "value", None) or b"") == 2 else "OW"
    if "OW" in choice:
        return "OW"
    return "SS" if signed else "US"
