"""Headers of one series that hold what they have in common once."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom import DataElement, Dataset, FileDataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from dicom_node.ct.patient import PATIENT_GROUP

_CHARACTER_SET, _PIXEL_REPRESENTATION = 0x0008_0005, 0x0028_0103

_Element = DataElement | RawDataElement


class SharedElements:
    """Elements of the header that came last, which the next one shares where they are equal.

    Of some hundred elements few differ between the slices of a series, and pydicom takes half a
    kilobyte for each. A shared element is converted once, not in every header; so a header must not
    be changed. Elements of the patient remain as they were read, for ``patient.identity_of``.
    """

    def __init__(self) -> None:
        self._encoding: object = None
        self._last: dict[int, _Shared] = {}

    def header(self, header: FileDataset) -> Dataset:
        """Return a header with the same elements; the given one must not be used any more."""
        encoding = _encoding_of(header)
        if encoding != self._encoding:
            self._encoding, self._last = encoding, {}
        lean = Dataset(dict(self._shared(element, header) for element in list(header.values())))
        is_implicit, is_little = header.original_encoding
        lean.set_original_encoding(is_implicit, is_little, header.original_character_set)
        return lean

    def _shared(self, element: _Element, header: FileDataset) -> tuple[BaseTag, _Element]:
        tag = element.tag
        if isinstance(element, DataElement):
            return tag, element
        number = int(tag)  # compared much faster than the tag
        last = self._last.get(number)
        if last is None or last.raw.value != element.value or last.raw.VR != element.VR:
            one = element if last is None else element._replace(tag=last.raw.tag)
            self._last[number] = _Shared(one)
            return one.tag, one
        if last.converted is None:
            last.converted = _converted(last.raw, header)
        return last.raw.tag, last.converted


@dataclass(slots=True)
class _Shared:
    """An element of the last header, as read and as it is shared."""

    raw: RawDataElement
    converted: _Element | None = None


def _converted(element: RawDataElement, header: FileDataset) -> _Element:
    """Convert an element; one of a wrong type stays as it is, to fail where it is asked for."""
    if element.tag.group == PATIENT_GROUP:
        return element
    try:
        return header[element.tag]
    except Exception:  # a value of a wrong type breaks its converter in any way
        return element


def _encoding_of(header: FileDataset) -> object:
    """Return everything that the meaning of an element's bytes depends on."""
    raw = (header.get_item(tag) for tag in (_CHARACTER_SET, _PIXEL_REPRESENTATION) if tag in header)
    values = tuple(element.value for element in raw)
    return header.original_encoding, header.original_character_set, values
