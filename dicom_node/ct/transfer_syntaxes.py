"""Transfer syntaxes whose pixels this product can decode; the receiver accepts no others."""

from __future__ import annotations

from typing import Final

from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_node.ct.attributes import quoted

UNCOMPRESSED: Final = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)
"""No pixel compression; deflated compresses the data set as a whole."""

LOSSLESS: Final = (
    JPEGLSLossless,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEG2000Lossless,
    RLELossless,
)
"""Compressed without loss."""

POSSIBLY_LOSSY: Final = (JPEGLSNearLossless, JPEG2000)
"""Decodable, but the pixels may have been compressed with loss before they arrived."""

READABLE: Final = UNCOMPRESSED + LOSSLESS + POSSIBLY_LOSSY
"""Every transfer syntax that can be decoded, in order of preference."""


def unreadable_syntax(name: str, syntax: object) -> str:
    """Return the error message for a file in another transfer syntax, such as a vendor's own.

    Args:
        name: Name of the file in the message.
        syntax: Its transfer syntax as it was read; None where it states none. A damaged header may
            hold several, or a number.
    """
    stated = UID(syntax).name if isinstance(syntax, str) else str(syntax or "")
    return (
        f"{name} is compressed as {quoted(stated)}, "
        "which cannot be read here: send it uncompressed or losslessly compressed."
    )
