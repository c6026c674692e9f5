"""Compression of files by GDCM, in the syntaxes that a scanner may choose."""

from __future__ import annotations

from pathlib import Path

import gdcm
import pydicom
from pydicom.uid import JPEG2000, JPEGLSNearLossless

COMPRESSED = {
    "jpeg-ls": gdcm.TransferSyntax.JPEGLSLossless,
    "jpeg-lossless-sv1": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    "jpeg-lossless": gdcm.TransferSyntax.JPEGLosslessProcess14,
    "jpeg-2000": gdcm.TransferSyntax.JPEG2000Lossless,
    "rle": gdcm.TransferSyntax.RLELossless,
}
"""Lossless syntaxes."""

RELABELLED = {
    "jpeg-2000-any": ("jpeg-2000", JPEG2000),
    "jpeg-ls-near": ("jpeg-ls", JPEGLSNearLossless),
}
"""Syntaxes that allow loss, and the lossless streams that they hold here."""


def compress(path: Path, syntax: str) -> None:
    """Compress the image of a file without loss."""
    if syntax in RELABELLED:
        lossless, uid = RELABELLED[syntax]
        compress(path, lossless)
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = uid
        dataset.save_as(path)
        return
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(COMPRESSED[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(path))
    assert writer.Write()
