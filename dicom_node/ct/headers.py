"""Headers of CT images: loading, validation, names for messages, conditions for models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from pydicom import Dataset, FileDataset
from pydicom.errors import InvalidDicomError

from dicom_node.ct.attributes import number, numbers, texts
from dicom_node.ct.pixels import WORD_BITS, Encoding
from dicom_node.ct.scope import is_own_equipment, reason_unprocessable, reason_unreadable
from dicom_node.ct.transfer_syntaxes import READABLE, unreadable_syntax
from dicom_node.encoding.element_selection import ElementScope
from dicom_node.encoding.file_reader import read_elements, transfer_syntax_of
from dicom_node.encoding.preamble import correct_transfer_syntax
from dicom_node.errors import InputError, NotForUs, StorageError, UnreadableFile
from man_core import Condition

MAX_SIDE_PIXELS: Final = 4096
"""Limit of rows and columns; scanners reconstruct at most 2048."""

_LASTING: Final = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
"""Permanent faults, which a retry does not cure; other faults of the system (too many open files,
an unreachable network folder) are transient."""

_HASHED_NAME: Final = re.compile(r"[0-9a-f]{16,}-[0-9a-f]{16,}\.dcm")
_IDENTITY: Final = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_OF_PIXELS: Final = {
    "Rows": 1,
    "Columns": 1,
    "BitsAllocated": 1,
    "BitsStored": 1,
    "HighBit": 1,
    "PixelRepresentation": 1,
    "RescaleSlope": 1,
    "RescaleIntercept": 1,
}
"""Attributes required for HU, with their multiplicity."""

_OF_PLACE: Final = {"PixelSpacing": 2, "ImagePositionPatient": 3, "ImageOrientationPatient": 6}
"""Attributes required for the position in the patient, with their multiplicity."""


def load(path: Path, *, pixels: bool) -> FileDataset:
    """Load the part of a DICOM file that is needed to decide about it and to position it.

    Private elements, large values and sequences (except those of ``LEAN_SEQUENCES`` in
    ``element_selection``) are left out, so that the headers of a whole series fit into memory,
    whatever it contains.

    Args:
        path: The file.
        pixels: Whether to load the pixel data too.

    Raises:
        UnreadableFile: It is no DICOM file, it is cut off within the header, or it exceeds a bound.
        InputError: It is not there, or may not be opened.
        StorageError: The disk, or the system, cannot read it now.
    """
    header = _read(path, ElementScope(lean=True, pixels=pixels))
    _forget_other_contributors(header)
    return header


def load_image(path: Path) -> FileDataset:
    """Load all public elements of an image with its pixel data.

    Raises:
        UnreadableFile: As :func:`load`, and where the header is larger than any image's.
        InputError: It is not there, or may not be opened.
        StorageError: The disk, or the system, cannot read it now.
    """
    return _read(path, ElementScope(lean=False, pixels=True))


def load_whole(path: Path) -> FileDataset:
    """Load the header that a derived image is made from: all public elements.

    Raises:
        UnreadableFile: As :func:`load`, and where the header is larger than any image's.
        InputError: It is not there, or may not be opened.
        StorageError: The disk, or the system, cannot read it now.
    """
    return _read(path, ElementScope(lean=False, pixels=False))


def _read(path: Path, wanted: ElementScope) -> FileDataset:
    syntax = ""
    try:
        with path.open("rb") as file:
            syntax = transfer_syntax_of(file)
            dataset = read_elements(file, wanted)
        correct_transfer_syntax(dataset)
    except InvalidDicomError as error:
        raise UnreadableFile(f"{path.name} is not a DICOM file: remove it.") from error
    except OSError as error:
        lasting = isinstance(error, _LASTING)
        why = f"{path.name} cannot be opened: {error.strerror or 'read error'}."
        raise (InputError if lasting else StorageError)(why) from error
    except UnreadableFile as error:
        text = str(error).rstrip(".")
        raise UnreadableFile(f"{path.name} is refused: {text[:1].lower()}{text[1:]}.") from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged header can break the parser anywhere
        if syntax and syntax not in READABLE:
            raise UnreadableFile(unreadable_syntax(path.name, syntax)) from error
        raise UnreadableFile(
            f"{path.name} is damaged or cut off: replace it with a complete copy."
        ) from error
    if syntax and syntax not in READABLE and "SOPClassUID" not in dataset:
        raise UnreadableFile(unreadable_syntax(path.name, syntax))
    dataset.buffer = None
    return dataset


def _forget_other_contributors(header: Dataset) -> None:
    """Keep only the Contributing Equipment item that the loop guard looks for."""
    try:
        equipment = [
            one
            for one in header.get("ContributingEquipmentSequence") or ()
            if is_own_equipment(one)
        ]
    except Exception:  # a value of a wrong type breaks its converter in any way
        return
    if equipment:
        header.ContributingEquipmentSequence = equipment[:1]
    elif "ContributingEquipmentSequence" in header:
        del header.ContributingEquipmentSequence


def image_name(header: Dataset, path: Path) -> str:
    """Return a name for an image in messages: instance number and file name, nothing personal.

    A file name made of hashes, as in the node's inbox, is meaningless to people; the position in
    the patient replaces it.
    """
    instance, position = number(header, "InstanceNumber"), numbers(header, "ImagePositionPatient")
    if instance is None:
        return path.name
    if _HASHED_NAME.fullmatch(path.name) and len(position) == 3:
        return f"Image {instance:.0f} at z {position[2]:.1f} mm"
    return f"Image {instance:.0f} ({path.name})"


def check(header: Dataset, name: str) -> None:
    """Check that the image can be converted to HU and positioned in the patient.

    Raises:
        NotForUs: It is out of scope whatever the rules say: MR, multi-frame, localizer, colour ...
        UnreadableFile: An attribute is missing or makes no sense.
    """
    with damage_named(name):
        if (reason := reason_unprocessable(header)) is not None:
            raise NotForUs(f"{name} cannot be denoised: {reason}.")
        _check_attributes(header, name, {**_OF_PIXELS, **_OF_PLACE})
        _check_encoding(header, name)
        if min(numbers(header, "PixelSpacing")) <= 0:
            raise UnreadableFile(f"{name} has a PixelSpacing that is not positive.")


def check_pixels(header: Dataset, name: str) -> None:
    """Check that an image can be converted to HU, whoever made it and wherever it lies.

    Raises:
        NotForUs: It has no CT values in HU: MR, multi-frame, localizer, colour ...
        UnreadableFile: An attribute is missing or makes no sense.
    """
    with damage_named(name):
        if (reason := reason_unreadable(header)) is not None:
            raise NotForUs(f"{name} cannot be read in HU: {reason}.")
        _check_attributes(header, name, _OF_PIXELS)
        _check_encoding(header, name)


@contextmanager
def damage_named(name: str) -> Iterator[None]:
    """Turn whatever a damaged header does to those who read it into an error that names the image.

    Raises:
        UnreadableFile: A value breaks its converter.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a value of a wrong type can break its converter in any way
        raise UnreadableFile(f"{name} has a damaged header: send it again.") from error


def condition_of(headers: Sequence[Dataset]) -> Condition:
    """Return the acquisition parameters that a model may use: medians over the slices."""
    return Condition(
        anatomy=_first(headers[0], "BodyPartExamined"),
        kernel=_first(headers[0], "ConvolutionKernel"),
        kvp=_median(number(one, "KVP") for one in headers),
        mas=_median(_mas(one) for one in headers),
        thickness_mm=_median(number(one, "SliceThickness") for one in headers),
    )


def _check_attributes(header: Dataset, name: str, counts: Mapping[str, int]) -> None:
    for keyword in _IDENTITY:
        if not header.get(keyword):
            raise UnreadableFile(f"{name} has no {keyword}: the file is cut off or not a CT image.")
    for keyword, count in counts.items():
        if len(numbers(header, keyword)) != count:
            raise UnreadableFile(
                f"{name} has no usable {keyword}: the file is cut off or not a CT image."
            )


def _check_encoding(header: Dataset, name: str) -> None:
    _check_bits(header, name)
    if max(int(header.Rows), int(header.Columns)) > MAX_SIDE_PIXELS:
        raise UnreadableFile(
            f"{name} claims {int(header.Rows)} x {int(header.Columns)} pixels: at most "
            f"{MAX_SIDE_PIXELS} x {MAX_SIDE_PIXELS} can be denoised."
        )
    if float(header.RescaleSlope) == 0:
        raise UnreadableFile(f"{name} has a RescaleSlope of 0, so its pixel values mean nothing.")
    Encoding.of(header)


def _check_bits(header: Dataset, name: str) -> None:
    allocated, stored = int(header.BitsAllocated), int(header.BitsStored)
    if (allocated, int(header.HighBit)) != (WORD_BITS, stored - 1) or not 1 <= stored <= WORD_BITS:
        raise UnreadableFile(
            f"{name} stores {stored} of {allocated} bits with high bit {int(header.HighBit)}: "
            f"a CT image has {WORD_BITS} bits and a high bit of one less than the bits stored."
        )


def _first(header: Dataset, keyword: str) -> str | None:
    return next(iter(texts(header, keyword)), None)


def _mas(header: Dataset) -> float | None:
    exposure = number(header, "Exposure")
    if exposure is not None:
        return exposure
    micro = number(header, "ExposureInuAs")
    return None if micro is None else micro / 1000


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
