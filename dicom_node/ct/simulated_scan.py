"""Simulated volumes written as original axial CT Image series, as by a scanner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import CTImageStorage
from pydicom.valuerep import format_number_as_ds

from dicom_node.ct.files import file_meta_for, write_file
from dicom_node.ct.pixels import WORD_BITS, Encoding, signal_words
from dicom_node.ct.uids import named_uid
from dicom_node.product import MANUFACTURER, PRODUCT_VERSION
from man_core import Volume

SIMULATOR: Final = "CT simulator"
"""Model name of simulated scans; not the node's own, which the loop guard refuses."""

TWELVE_BITS: Final = Encoding(slope=1.0, intercept=-1024.0, bits=12, signed=False)
"""The usual encoding of HU by scanners."""


@dataclass(frozen=True)
class Scan:
    """Header values of a simulated scan; its UIDs are computed from them.

    Attributes:
        patient_name: Patient's Name.
        patient_id: Patient ID.
        study: Name of the study; scans of one patient and study belong together.
        description: Series Description; names the series within the study.
        series_number: Series Number.
        anatomy: Body Part Examined, an unpaired region.
        kernel: Convolution Kernel.
        kvp: Tube voltage, kV.
        mas: Exposure, mAs.
        thickness_mm: Slice thickness, mm; None: the slice spacing.
        window_hu: Window centre and width, HU.
        date: Date of everything, YYYYMMDD.
        time: Time of everything, HHMMSS.
        encoding: Encoding of HU in stored pixels.
    """

    patient_name: str = "PHANTOM^DEMO"
    patient_id: str = "PHANTOM-DEMO"
    study: str = "demo"
    description: str = "Phantom"
    series_number: int = 1
    anatomy: str = "ABDOMEN"
    kernel: str = "STANDARD"
    kvp: float = 120.0
    mas: float = 200.0
    thickness_mm: float | None = None
    window_hu: tuple[float, float] = (40.0, 400.0)
    date: str = "20250101"
    time: str = "120000"
    encoding: Encoding = TWELVE_BITS


def write_scan(
    volume: Volume,
    folder: Path,
    scan: Scan = Scan(),
    *,
    padding: NDArray[np.bool_] | None = None,
) -> list[Path]:
    """Write a volume as CT Image Storage files ``0001.dcm``, ``0002.dcm`` ...

    Args:
        volume: HU and geometry, slices equally spaced.
        folder: Created if missing; files of the same names are replaced.
        scan: Values of the headers.
        padding: [slice, row, column], pixels to fill with the encoding's padding value.

    Returns:
        The files, in slice order.

    Raises:
        StorageError: The folder is not writable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, dataset in enumerate(scan_datasets(volume, scan, padding=padding), start=1):
        paths.append(folder / f"{number:04d}.dcm")
        write_file(dataset, paths[-1])
    return paths


def scan_datasets(
    volume: Volume, scan: Scan, *, padding: NDArray[np.bool_] | None = None
) -> Iterator[Dataset]:
    """Generate the data sets that :func:`write_scan` writes, in slice order."""
    for index, hu in enumerate(volume.hu):
        dataset = Dataset()
        _add_patient_and_study(dataset, scan)
        _add_series_and_equipment(dataset, scan)
        _add_acquisition(dataset, scan, volume)
        _add_place(dataset, volume, index)
        _add_pixels(dataset, hu, scan, None if padding is None else padding[index])
        _add_identity(dataset, scan, index + 1)
        dataset.file_meta = file_meta_for(dataset)
        yield dataset


def _add_patient_and_study(dataset: Dataset, scan: Scan) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = scan.patient_name
    dataset.PatientID = scan.patient_id
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.StudyInstanceUID = named_uid(scan.patient_id, scan.study)
    dataset.StudyID = "1"
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = f"CT {scan.study}"
    for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(dataset, keyword, scan.date)
    for keyword in ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime"):
        setattr(dataset, keyword, scan.time)


def _add_series_and_equipment(dataset: Dataset, scan: Scan) -> None:
    dataset.Modality = "CT"
    dataset.SeriesDescription = scan.description
    dataset.SeriesNumber = scan.series_number
    dataset.PatientPosition = "HFS"
    dataset.BodyPartExamined = scan.anatomy
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = SIMULATOR
    dataset.SoftwareVersions = PRODUCT_VERSION
    dataset.DeviceSerialNumber = "SIMULATED"


def _add_acquisition(dataset: Dataset, scan: Scan, volume: Volume) -> None:
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.AcquisitionNumber = 1
    dataset.KVP = _ds(scan.kvp)
    dataset.Exposure = round(scan.mas)
    dataset.ConvolutionKernel = scan.kernel
    thickness = volume.spacing_mm[0] if scan.thickness_mm is None else scan.thickness_mm
    dataset.SliceThickness = _ds(thickness)
    dataset.WindowCenter, dataset.WindowWidth = map(_ds, scan.window_hu)


def _add_place(dataset: Dataset, volume: Volume, index: int) -> None:
    along = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    position = volume.affine[:3] @ (index, 0, 0, 1)
    dataset.ImagePositionPatient = [_ds(mm) for mm in position]
    dataset.ImageOrientationPatient = [_ds(cosine) for cosine in (*along[:, 2], *along[:, 1])]
    dataset.PixelSpacing = [_ds(mm) for mm in volume.spacing_mm[1:]]
    dataset.PositionReferenceIndicator = ""


def _add_pixels(
    dataset: Dataset, hu: NDArray[np.float32], scan: Scan, padding: NDArray[np.bool_] | None
) -> None:
    encoding = scan.encoding
    words = signal_words(hu, encoding)
    if encoding.padding is not None and padding is not None:
        words[padding] = encoding.padding[0]
    dataset.Rows, dataset.Columns = hu.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = WORD_BITS
    dataset.BitsStored = encoding.bits
    dataset.HighBit = encoding.bits - 1
    dataset.PixelRepresentation = int(encoding.signed)
    dataset.RescaleSlope, dataset.RescaleIntercept = _ds(encoding.slope), _ds(encoding.intercept)
    dataset.RescaleType = "HU"
    if encoding.padding is not None:
        dataset.PixelPaddingValue = encoding.padding[0]
    dataset.add_new("PixelData", "OW", words.astype(words.dtype.newbyteorder("<")).tobytes())


def _add_identity(dataset: Dataset, scan: Scan, number: int) -> None:
    series = (scan.patient_id, scan.study, scan.description, str(scan.series_number))
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = named_uid(*series, str(number))
    dataset.SeriesInstanceUID = named_uid(*series)
    dataset.FrameOfReferenceUID = named_uid(scan.patient_id, scan.study, "frame")
    dataset.InstanceNumber = number


def _ds(value: float) -> str:
    """A decimal string of at most 16 characters (PS3.5 6.2)."""
    return format_number_as_ds(float(value))
