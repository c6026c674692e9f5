"""Derived CT Image data sets made of denoised slices (PS3.3 A.3, C.7.6.1.1.2, C.8.2.1).

Nothing here reads a clock: dates and times are the source's and UIDs are computed, so that the same
series gives the same bytes. docs/decisions/0004-derived-series.md gives the reason for each
attribute that is kept, changed or dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.ct.attributes import number, texts
from dicom_node.ct.derived.codes import SMOOTHING, SOURCE_IMAGE, code_item
from dicom_node.ct.derived.equipment import name_equipment
from dicom_node.ct.derived.header import copy_header
from dicom_node.ct.derived.provenance import DeriveOptions, Provenance
from dicom_node.ct.derived.text import append_text
from dicom_node.ct.files import file_meta_for
from dicom_node.ct.image_file import CtSlice
from dicom_node.ct.pixels import Encoding, to_words
from dicom_node.ct.uids import derived_uid

MAX_DESCRIPTION_CHARACTERS: Final = 64
"""Limit of Series Description (VR LO, PS3.5 6.2)."""

MAX_DERIVATION_CHARACTERS: Final = 1024
"""Limit of Derivation Description (VR ST)."""

FLAGGED: Final = "Flagged by the plausibility guard"
BESIDE: Final = "Read only beside the original image; Derivation Description says why."
CUT: Final = " ..."

MAX_SERIES_NUMBER: Final = 2**31 - 1
"""Limit of an integer string (VR IS)."""


def derive_image(
    source: CtSlice,
    hu: NDArray[np.float32],
    provenance: Provenance,
    options: DeriveOptions = DeriveOptions(),  # noqa: B008 - frozen
    *,
    missing: str = "",
    beside: Sequence[tuple[str, str]] = (),
) -> Dataset:
    """Make one image of the derived series.

    Args:
        source: The slice that was denoised.
        hu: The denoised slice [row, column].
        provenance: Model and settings that produced it.
        options: Labelling of the derived series.
        missing: Phrase about slices that the source lacked, for Derivation Description.
        beside: SOP class and instance of the slices that the model saw beside it.

    Returns:
        A complete data set with file meta information, for Explicit VR Little Endian.

    Raises:
        ValueError: The slice does not have the source's shape.
    """
    if hu.shape != source.stored.shape:
        raise ValueError(f"The result has shape {hu.shape}, not the source's.")
    header = source.header
    derived = copy_header(header)
    # The first 128 bytes of a file are free for other uses; the source's describe the source.
    derived.preamble = bytes(128)
    _identify(derived, header, provenance.key(options))
    _label(derived, header, provenance, options)
    derived.DerivationDescription = describe(header, provenance, missing)
    _refer(derived, header, beside)
    name_equipment(derived, header, provenance, options)
    _put_words(derived, to_words(hu, Encoding.of(header), source.stored, source.padding))
    derived.file_meta = file_meta_for(derived)
    return derived


def _identify(derived: Dataset, header: Dataset, key: str) -> None:
    derived.SOPInstanceUID = derived_uid(str(header.SOPInstanceUID), key)
    derived.SeriesInstanceUID = derived_uid(str(header.SeriesInstanceUID), key)


def _label(
    derived: Dataset, header: Dataset, provenance: Provenance, options: DeriveOptions
) -> None:
    further = texts(header, "ImageType")[2:] or ["AXIAL"]
    derived.ImageType = ["DERIVED", options.image_type, *further]
    source_number = int(number(header, "SeriesNumber") or 0)
    derived.SeriesNumber = min(source_number + options.series_number_offset, MAX_SERIES_NUMBER)
    append_text(
        derived, "SeriesDescription", provenance.suffix(options), MAX_DESCRIPTION_CHARACTERS
    )


def describe(header: Dataset, provenance: Provenance, missing: str, flagged: str = "") -> str:
    """Compose Derivation Description: earlier derivations, this one, and its caveats.

    Args:
        header: Header of the source image.
        provenance: Model and settings that produced the derived image.
        missing: Phrase about slices that the source lacked; empty if none.
        flagged: The guard's objections; empty if none.

    Returns:
        At most 1024 characters; earlier derivations are cut first, then the objections.
    """
    text = provenance.description()
    if missing:
        text = f"{text} The series was incomplete: {missing}."
    if flagged:
        text = f"{text} {FLAGGED}: {flagged.encode('ascii', 'replace').decode()}."
    if len(text) > MAX_DERIVATION_CHARACTERS:
        text = text[: MAX_DERIVATION_CHARACTERS - len(CUT)] + CUT
    earlier = "".join(texts(header, "DerivationDescription")[:1])
    earlier = earlier[: max(0, MAX_DERIVATION_CHARACTERS - len(text) - 2)]
    return f"{earlier}; {text}" if earlier else text


def add_guard_objections(
    derived: Dataset, header: Dataset, provenance: Provenance, missing: str, flagged: str
) -> None:
    """Add the guard's objections to its series to the header of a derived image.

    Derivation Description states them in full. Image Comments, which viewers show, refers to it
    unless the source has comments of its own.
    """
    derived.DerivationDescription = describe(header, provenance, missing, flagged)
    if not texts(header, "ImageComments"):
        derived.ImageComments = f"{FLAGGED}. {BESIDE}"


def _refer(derived: Dataset, header: Dataset, beside: Sequence[tuple[str, str]]) -> None:
    own = (header.SOPClassUID, header.SOPInstanceUID)
    # No code of CID 7203 means noise reduction; smoothing is the nearest (PS3.16).
    steps = list(derived.get("DerivationCodeSequence") or ())
    derived.DerivationCodeSequence = [*steps, code_item(SMOOTHING)]
    source = _source_item(own)
    source.SpatialLocationsPreserved = "YES"
    derived.SourceImageSequence = [source, *map(_source_item, beside)]
    series = Dataset()
    series.SeriesInstanceUID = header.SeriesInstanceUID
    series.ReferencedInstanceSequence = [_reference(one) for one in (own, *beside)]
    derived.ReferencedSeriesSequence = [*(derived.get("ReferencedSeriesSequence") or ()), series]


def _source_item(image: tuple[str, str]) -> Dataset:
    item = _reference(image)
    item.PurposeOfReferenceCodeSequence = [code_item(SOURCE_IMAGE)]
    return item


def _reference(image: tuple[str, str]) -> Dataset:
    """Refer to an image by its SOP class and instance."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image
    return item


def _put_words(derived: Dataset, words: NDArray[Any]) -> None:
    derived.add_new("PixelData", "OW", words.astype(words.dtype.newbyteorder("<")).tobytes())
