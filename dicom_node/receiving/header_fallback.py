"""Header values of irregular data sets, read by pydicom where the walk over the elements gives up.

pydicom tolerates much of what scanners write against the standard. It also tolerates a data set
that is cut off, which must not count as received: that is checked here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import BinaryIO

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.filereader import data_element_generator, read_dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_node.encoding.irregular import BoundedReader, ViewFile, check_nesting
from dicom_node.errors import UnreadableFile

MAX_VALUE_BYTES = 1 << 16
"""Longer values are skipped."""

MAX_HEADER_BYTES = 16 << 20
"""Bytes of such a data set that are read at most, encapsulated pixels not counted."""

_UNDEFINED = 0xFFFF_FFFF


def read_values(
    data: bytes | memoryview, transfer_syntax: str, wanted: Collection[int]
) -> dict[int, str]:
    """Read the values of top-level elements, by tag; absent elements are left out.

    Args:
        data: The whole data set, encoded.
        transfer_syntax: The transfer syntax that it claims.
        wanted: Tags to read.

    Raises:
        UnreadableFile: It cannot be read, or not to its end.
    """
    little, size = transfer_syntax != ExplicitVRBigEndian, len(data)
    implicit = transfer_syntax == ImplicitVRLittleEndian
    try:
        found = read_dataset(_reader(data), implicit, little, defer_size=MAX_VALUE_BYTES)
        check_nesting(found)
        elements = data_element_generator(
            _reader(data), bool(found.original_encoding[0]), little, defer_size=MAX_VALUE_BYTES
        )
        _check_whole(elements, size)
        return {tag: str(found[tag].value or "") for tag in wanted if tag in found}
    except UnreadableFile:
        raise
    except Exception as error:  # a damaged data set breaks its reader in any way
        raise UnreadableFile("The data set cannot be read as DICOM.") from error


def _reader(data: bytes | memoryview) -> BinaryIO:
    reader: BinaryIO = BoundedReader(  # type: ignore[assignment]
        ViewFile(data), max_bytes=MAX_HEADER_BYTES
    )
    return reader


def _check_whole(elements: Iterable[RawDataElement | DataElement], size: int) -> None:
    """Check that every value has its stated length, and that nothing follows the last one."""
    end = size
    for element in elements:
        if not isinstance(element, RawDataElement) or element.length == _UNDEFINED:
            end = size  # read up to its delimiter, or pydicom has raised
            continue
        end = element.value_tell + element.length
        if end > size:
            raise UnreadableFile("The data set is cut off.")
    if end != size:
        raise UnreadableFile("Bytes that are no element follow the data set.")
