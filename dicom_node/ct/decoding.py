"""Decoding of pixel data into stored words, with everything that shows damage.

A damaged frame is refused where its structure, its length or its decoder shows it. Damage that
leaves a valid frame, such as one bit of a literal byte, cannot be seen: no compression of DICOM
carries a checksum.
"""

from __future__ import annotations

import re
from typing import Any, Final

from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import as_pixel_options, pixel_array
from pydicom.uid import UID, JPEGLossless, JPEGLosslessSV1

from dicom_node.ct.decoder_messages import messages_of
from dicom_node.ct.transfer_syntaxes import READABLE, unreadable_syntax
from dicom_node.encoding.codestream import FrameHeader, check_frame_header
from dicom_node.encoding.frame_end import check_frame_end, scan_data
from dicom_node.errors import UnreadableFile

_EXTENDED_OFFSETS: Final = "extended_offsets"
"""Table of several frames; a single frame is all of the fragments."""

_DECODED_BY_LIBJPEG: Final = (JPEGLossless, JPEGLosslessSV1)

_DAMAGE: Final = re.compile(
    rb"Corrupt JPEG data: (?:(\d+) extraneous bytes)?|Premature end of JPEG"
)
"""Warnings of libjpeg, which fills what is missing with guesses (its file jerror.h)."""

_FLUSHED: Final = (b"\x00", b"\xff\x00")
"""A last byte without data, which some encoders write."""


def decode(dataset: Dataset, name: str) -> NDArray[Any]:
    """Decode the stored words [row, column] of one image, int16 or uint16, unused bits untouched.

    Decoders of compressed pixels are C code that foreign bytes can crash: images from outside are
    decoded in processes of their own (``ct.conversion``).

    Args:
        dataset: One image with its pixel data and file meta information.
        name: Name of the image in error messages.

    Raises:
        UnreadableFile: The transfer syntax is unsupported, or the pixel data missing, damaged or
            cut off.
        MemoryError: Decoding takes more memory than this process may have.
    """
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax not in READABLE:
        raise UnreadableFile(unreadable_syntax(name, syntax))
    if not dataset.get("PixelData"):
        raise UnreadableFile(f"{name} has no pixel data: the file is cut off, send it again.")
    try:
        words = (_decompressed if syntax.is_encapsulated else _unpacked)(dataset)
    except MemoryError:
        raise
    except UnreadableFile as error:
        text = str(error).rstrip(".")
        raise UnreadableFile(
            f"{name} cannot be decoded: {text[:1].lower()}{text[1:]}: send it again."
        ) from error
    except Exception as error:  # damaged attributes and fragments break their parsers in any way
        raise UnreadableFile(
            f"The pixel data of {name} is damaged or cut off: send it again."
        ) from error
    if words.shape != (int(dataset.Rows), int(dataset.Columns)):
        raise UnreadableFile(
            f"The pixel data of {name} does not have the size in its header: send it again."
        )
    return words


def _unpacked(dataset: Dataset) -> NDArray[Any]:
    # Unused bits stay, so that padding which uses them is written back bit for bit.
    words: NDArray[Any] = pixel_array(dataset, raw=True, correct_unused_bits=False)
    return words


def _decompressed(dataset: Dataset) -> NDArray[Any]:
    syntax = dataset.file_meta.TransferSyntaxUID
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    header = _check_frame(frame, syntax, dataset)
    options: dict[str, Any] = as_pixel_options(
        dataset, pixel_keyword="PixelData", correct_unused_bits=False
    )
    options.pop(_EXTENDED_OFFSETS, None)
    words: NDArray[Any]
    with messages_of(syntax in _DECODED_BY_LIBJPEG) as messages:
        words, _ = get_decoder(syntax).as_array(dataset.PixelData, raw=True, **options)
    if header is not None:
        _check_messages(messages.text, frame, header)
    return words


def _check_frame(frame: bytes, syntax: UID, dataset: Dataset) -> FrameHeader | None:
    """Check what a compressed frame claims, and that it is whole, before it is decoded."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    header = check_frame_header(
        frame, syntax, rows=rows, columns=columns, bits_stored=int(dataset.BitsStored)
    )
    check_frame_end(frame, syntax, header, pixels=rows * columns)
    return header


def _check_messages(text: bytes, frame: bytes, header: FrameHeader) -> None:
    """Check that libjpeg had neither too little data nor too much."""
    damage = _DAMAGE.search(text)
    if damage is None:
        return
    unused = int(damage[1] or 0)
    if unused and scan_data(frame, header)[-unused:] in _FLUSHED:
        return
    raise UnreadableFile("Its compressed pixels are damaged.")
