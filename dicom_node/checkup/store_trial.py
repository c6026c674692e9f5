"""Check of a peer by storing a tiny image there that is marked as a test."""

from __future__ import annotations

import tempfile
import time
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import CTImageStorage, generate_uid

from dicom_node.checkup.verdict import Checks
from dicom_node.ct.files import file_meta_for, write_file
from dicom_node.ct.uids import named_uid
from dicom_node.errors import PeerError, StorageError
from dicom_node.product import MANUFACTURER, MODEL_NAME, PRODUCT_VERSION
from dicom_node.sending.outcome import SendResult
from dicom_node.sending.routes import PeerTransport
from dicom_node.settings import Settings, WebPeerSettings

TEST_NAME = "TEST^DICOM-NODE"
TEST_PATIENT = "DICOM-NODE-TEST"
TEST_DESCRIPTION = "TEST of dicom-node check, delete"

_SIDE_PIXELS = 16


def checks(settings: Settings, peers: list[str]) -> Checks:
    """Generate a check for each of these peers that stores a test image there.

    Raises:
        ConfigurationError: No peer has one of the names.
    """
    for name in peers:
        settings.peer(name)
    for name in peers:
        yield f"store at {name}", partial(_store, settings, name)


def _store(settings: Settings, name: str) -> str:
    begin = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory(prefix="dicom-node-") as folder:
            result = _send(settings, name, Path(folder) / "test.dcm")
    except OSError as error:
        raise StorageError(f"No test image can be written: {error.strerror}.") from error
    if not result.ok:
        raise PeerError(
            f"{name} does not store a test image: {result.sentence}; {_remedy(settings, name)}.",
            transient=result.transient,
        )
    milliseconds = 1000 * (time.perf_counter() - begin)
    return f"Stored in {milliseconds:.0f} ms: delete patient {TEST_PATIENT} there."


def _remedy(settings: Settings, name: str) -> str:
    peer = settings.peer(name)
    if isinstance(peer, WebPeerSettings):
        return (
            f"check that the archive itself answers at {peer.url}, not a login page or proxy,"
            " and that its user may store there"
        )
    return f"allow {settings.ae_title} to store there; its own log gives the reason"


def _send(settings: Settings, name: str, path: Path) -> SendResult:
    write_file(make_test_image(settings.ae_title), path)
    with PeerTransport(settings).open(settings.peer(name), [path]) as session:
        (result,) = session.send()
    return result


def make_test_image(ae_title: str) -> Dataset:
    """Create a CT image of air, 16 x 16 pixels, with a test patient's name.

    All test images of a node belong to one series of one study. They are DERIVED, so that the
    node skips them if a rule of the PACS sends them back.

    Args:
        ae_title: AE title of this node, which determines study and series.
    """
    now = datetime.now()
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, generate_uid(None)
    image.StudyInstanceUID = named_uid("check", ae_title, "study")
    image.SeriesInstanceUID = named_uid("check", ae_title, "series")
    image.FrameOfReferenceUID = named_uid("check", ae_title, "frame of reference")
    image.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    image.PatientName, image.PatientID = TEST_NAME, TEST_PATIENT
    image.StudyDescription = image.SeriesDescription = TEST_DESCRIPTION
    image.StudyID, image.Modality = "TEST", "CT"
    image.SeriesNumber = image.InstanceNumber = image.AcquisitionNumber = 1
    image.StudyDate = image.ContentDate = now.strftime("%Y%m%d")
    image.StudyTime = image.ContentTime = now.strftime("%H%M%S")
    image.Manufacturer, image.ManufacturerModelName = MANUFACTURER, MODEL_NAME
    image.SoftwareVersions = PRODUCT_VERSION
    for keyword in _EMPTY:
        setattr(image, keyword, None)
    _add_pixels(image)
    image.file_meta = file_meta_for(image)
    return image


_EMPTY = (
    "PatientBirthDate",
    "PatientSex",
    "ReferringPhysicianName",
    "AccessionNumber",
    "PositionReferenceIndicator",
    "KVP",
    "Laterality",
)
"""Attributes that must be present and may be empty (type 2)."""


def _add_pixels(image: Dataset) -> None:
    image.PatientPosition = "HFS"
    image.PixelSpacing, image.SliceThickness = [1.0, 1.0], 1.0
    image.ImageOrientationPatient, image.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 0]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows = image.Columns = _SIDE_PIXELS
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation = 1
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = 0, 1, "HU"
    air = np.full((_SIDE_PIXELS, _SIDE_PIXELS), -1000, dtype="<i2")
    image.add_new("PixelData", "OW", air.tobytes())
