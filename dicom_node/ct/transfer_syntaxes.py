"""The transfer syntaxes whose pixels this product can read; the receiver accepts no others."""

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
"""Decodable, but the pixels may have lost something before they came here."""

READABLE: Final = UNCOMPRESSED + LOSSLESS + POSSIBLY_LOSSY
"""Every transfer syntax that can be read, the preferred ones first."""


def unreadable_syntax(name: str, syntax: str | None) -> str:
    """What to say of a file in another transfer syntax, a maker's own for example.

    Args:
        name: What to call the file.
        syntax: Its transfer syntax; None where it states none.
    """
    return (
        f"{name} is compressed as {quoted(UID(syntax or '').name)}, "
        "which cannot be read here: send it uncompressed or lossless compressed"
    )
