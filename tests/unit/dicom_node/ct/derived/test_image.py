from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from highdicom import ContributingEquipment
from highdicom.spatial import ImageToReferenceTransformer
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
)
from support.ct_factory import make_series, recode
from support.slices import read_slices, stored_words

from dicom_node.ct.derived.codes import (
    ACQUISITION_EQUIPMENT,
    PROCESSING_EQUIPMENT,
    SMOOTHING,
    SOURCE_IMAGE,
)
from dicom_node.ct.derived.image import derive_image
from dicom_node.ct.derived.provenance import DeriveOptions, Provenance
from dicom_node.ct.read import CtSeries, open_series, read_series
from dicom_node.ct.scope import is_own_result, reason_out_of_scope
from dicom_node.errors import ConfigurationError
from dicom_node.product import MANUFACTURER, MODEL_NAME

MADE_BY = Provenance("man", "1.0", "ab" * 32, "cd" * 32, steps=20, strength=1.0, seed=7)

KEPT = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID",
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID",
    "PositionReferenceIndicator", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "SliceThickness", "PatientPosition", "BodyPartExamined", "InstanceNumber", "WindowCenter",
    "WindowWidth", "RescaleSlope", "RescaleIntercept", "RescaleType", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "ConvolutionKernel", "KVP", "Exposure", "AcquisitionNumber",
    "AcquisitionDate", "AcquisitionTime", "SpecificCharacterSet", "SeriesDate", "SeriesTime",
    "ContentDate", "ContentTime", "Modality", "SOPClassUID", "Rows", "Columns",
)  # fmt: skip


def derive(
    series: CtSeries,
    shift_hu: float = -3.0,
    made_by: Provenance = MADE_BY,
    options: DeriveOptions | None = None,
) -> list[Dataset]:
    return [
        derive_image(one, hu + np.float32(shift_hu), made_by, options or DeriveOptions())
        for one, hu in read_slices(open_series(series.files))
    ]


def as_bytes(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def written(dataset: Dataset) -> Dataset:
    return pydicom.dcmread(BytesIO(as_bytes(dataset)))


def one_of(folder: Path, **options: object) -> tuple[CtSeries, Dataset]:
    series = read_series(make_series(folder, **options))  # type: ignore[arg-type]
    return series, written(derive(series)[1])


def test_patient_study_geometry_acquisition_and_window_stay(tmp_path: Path) -> None:
    series, derived = one_of(tmp_path, patient_name="Müller^Jörg")
    for keyword in KEPT:
        assert derived[keyword].value == series.headers[1][keyword].value, keyword


def test_what_says_who_made_it_changes(tmp_path: Path) -> None:
    series, derived = one_of(tmp_path)
    source = series.headers[1]
    assert derived.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert derived.file_meta.MediaStorageSOPInstanceUID == derived.SOPInstanceUID
    assert derived.SOPInstanceUID != source.SOPInstanceUID
    assert derived.SeriesInstanceUID != source.SeriesInstanceUID
    assert list(derived.ImageType) == ["DERIVED", "PRIMARY", "AXIAL"]
    assert (derived.SeriesNumber, derived.SeriesDescription) == (1001, "Phantom MAN")
    for words in ("man 1.0", "abababababababab", "strength 1", "20 steps", "seed 7"):
        assert words in derived.DerivationDescription


def test_sources_and_codes_are_named(tmp_path: Path) -> None:
    series, derived = one_of(tmp_path)
    source = series.headers[1]
    (image,) = derived.SourceImageSequence
    assert image.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert image.SpatialLocationsPreserved == "YES"
    (purpose,) = image.PurposeOfReferenceCodeSequence
    assert as_code(purpose) == codes.DCM.SourceImageForImageProcessingOperation
    assert purpose.CodeMeaning == codes.DCM.SourceImageForImageProcessingOperation.meaning
    (step,) = derived.DerivationCodeSequence
    assert (as_code(step), step.CodeMeaning) == (codes.DCM.Smoothing, codes.DCM.Smoothing.meaning)
    (referenced,) = derived.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == source.SeriesInstanceUID
    assert [item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence] == [
        source.SOPInstanceUID
    ]


def as_code(item: Dataset) -> Code:
    return Code(item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning)


def test_the_node_is_the_equipment_and_the_scanner_a_contributor(tmp_path: Path) -> None:
    series, derived = one_of(tmp_path)
    assert (derived.Manufacturer, derived.ManufacturerModelName) == (MANUFACTURER, MODEL_NAME)
    assert list(derived.SoftwareVersions)[1:] == ["model man 1.0", "weights abababababababab"]
    assert "DeviceSerialNumber" not in derived
    (scanner,) = derived.ContributingEquipmentSequence
    assert scanner.ManufacturerModelName == series.headers[0].ManufacturerModelName
    assert scanner.DeviceSerialNumber == "SIMULATED"
    assert as_code(scanner.PurposeOfReferenceCodeSequence[0]) == codes.DCM.AcquisitionEquipment


def test_codes_and_contributors_are_those_of_the_libraries(tmp_path: Path) -> None:
    """Which take long to load, so that the product spells them out."""
    known = {
        ACQUISITION_EQUIPMENT: codes.DCM.AcquisitionEquipment,
        PROCESSING_EQUIPMENT: codes.DCM.ProcessingEquipment,
        SMOOTHING: codes.DCM.Smoothing,
        SOURCE_IMAGE: codes.DCM.SourceImageForImageProcessingOperation,
    }
    assert [tuple(code) for code in known] == [tuple(code)[:3] for code in known.values()]
    series, derived = one_of(tmp_path)
    source = series.headers[1]
    expected = ContributingEquipment(
        source.Manufacturer,
        codes.DCM.AcquisitionEquipment,
        manufacturer_model_name=source.ManufacturerModelName,
        software_versions=source.SoftwareVersions,
        device_serial_number=source.DeviceSerialNumber,
        contribution_description="Made the source images",
    )
    assert derived.ContributingEquipmentSequence[0].to_json() == expected.to_json()


def test_the_scanner_can_stay_the_equipment(tmp_path: Path) -> None:
    series = read_series(make_series(tmp_path))
    derived = derive(series, options=DeriveOptions(equipment="keep_scanner"))[0]
    assert derived.ManufacturerModelName == series.headers[0].ManufacturerModelName
    (node,) = derived.ContributingEquipmentSequence
    assert node.ManufacturerModelName == MODEL_NAME
    assert as_code(node.PurposeOfReferenceCodeSequence[0]) == codes.DCM.ProcessingEquipment
    assert is_own_result(derived)


def test_our_own_work_is_refused(tmp_path: Path) -> None:
    _, derived = one_of(tmp_path)
    assert is_own_result(derived)
    assert "already denoised" in (reason_out_of_scope(derived) or "")


def test_history_of_an_already_processed_source_is_kept(tmp_path: Path) -> None:
    earlier = Dataset()
    earlier.Manufacturer = "Earlier"

    def processed(dataset: Dataset) -> None:
        dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL", "FILTERED"]
        dataset.DerivationDescription = "edge filter"
        dataset.ContributingEquipmentSequence = [earlier]
        dataset.ReferencedSeriesSequence = [Dataset()]
        dataset.Manufacturer = ""

    _, derived = one_of(tmp_path, change=processed)
    assert list(derived.ImageType) == ["DERIVED", "PRIMARY", "AXIAL", "FILTERED"]
    assert derived.DerivationDescription.startswith("edge filter; AI noise reduction")
    first, second = derived.ContributingEquipmentSequence
    assert (first.Manufacturer, second.Manufacturer) == ("Earlier", "Unknown")
    assert as_code(second.PurposeOfReferenceCodeSequence[0]) == codes.DCM.ProcessingEquipment
    assert len(derived.ReferencedSeriesSequence) == 2


def test_what_described_the_old_pixels_goes(tmp_path: Path) -> None:
    def burden(dataset: Dataset) -> None:
        block = dataset.private_block(0x0029, "VENDOR", create=True)
        block.add_new(1, "LO", "private")
        item = Dataset()
        item.private_block(0x0029, "VENDOR", create=True).add_new(1, "LO", "private")
        item.CodeValue = "1"
        dataset.ProcedureCodeSequence = [item]
        dataset.IconImageSequence = [Dataset()]
        dataset.DigitalSignaturesSequence = [Dataset()]
        dataset.add_new("SmallestImagePixelValue", "US", 3)
        dataset.InstanceCreationDate = "20200101"
        dataset.add_new(0x60000010, "US", 64)  # an overlay in the pixels' unused bits
        dataset.add_new(0x60020010, "US", 64)  # an overlay of its own
        dataset.add_new(0x60023000, "OW", b"\0\0")
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionRatio = "10"
        dataset.IrradiationEventUID = "1.2.3.4"

    _, derived = one_of(tmp_path, change=burden)
    assert not [element for element in derived.iterall() if element.tag.is_private]
    gone = ("IconImageSequence", "DigitalSignaturesSequence", "SmallestImagePixelValue",
            "InstanceCreationDate")  # fmt: skip
    assert not [keyword for keyword in gone if keyword in derived]
    assert derived.group_dataset(0x6000) == Dataset()
    assert 0x60023000 in derived
    assert derived.ProcedureCodeSequence[0].CodeValue == "1"
    assert (derived.LossyImageCompression, derived.LossyImageCompressionRatio) == ("01", 10)
    assert derived.IrradiationEventUID == "1.2.3.4"


@pytest.mark.parametrize(("description", "expected"), [
    ("x" * 64, "x" * 60 + " MAN"), ("", "MAN"), ("Körper", "Körper MAN"),
])  # fmt: skip
def test_the_description_fits_in_64_characters(
    tmp_path: Path, description: str, expected: str
) -> None:
    _, derived = one_of(tmp_path, description=description)
    assert derived.SeriesDescription == expected


@pytest.mark.parametrize("suffix", ["降噪", " A\\B", "\n", "x" * 33])
def test_a_suffix_that_no_header_can_hold_is_refused(suffix: str) -> None:
    with pytest.raises(ConfigurationError, match="description_suffix"):
        DeriveOptions(description_suffix=suffix)


def test_the_same_series_gives_the_same_bytes(tmp_path: Path) -> None:
    paths = make_series(tmp_path)
    first = [as_bytes(one) for one in derive(read_series(paths))]
    second = [as_bytes(one) for one in derive(read_series(paths[::-1]))]
    assert first == second


def test_other_settings_give_other_uids(tmp_path: Path) -> None:
    series = read_series(make_series(tmp_path))
    makers = (MADE_BY, replace(MADE_BY, strength=0.5), replace(MADE_BY, digest="ef"))
    labels = (DeriveOptions(), DeriveOptions(image_type="SECONDARY"))
    made = [derive(series, 0, maker, label) for maker in makers for label in labels]
    assert len({datasets[0].SeriesInstanceUID for datasets in made}) == 6
    assert len({one.SOPInstanceUID for datasets in made for one in datasets}) == 6 * 4
    newer = derive(series, made_by=replace(MADE_BY, product_version="99"))
    assert newer[0].SOPInstanceUID == made[0][0].SOPInstanceUID


@settings(max_examples=25)
@given(st.sampled_from([(12, False, -1024.0), (16, True, 0.0)]), st.floats(-200, 200))
def test_pixels_go_back_as_they_came(
    tmp_path_factory: pytest.TempPathFactory, kind: tuple[int, bool, float], shift_hu: float
) -> None:
    bits, signed, intercept = kind
    padding = -2000 if signed else 0
    folder = tmp_path_factory.mktemp("series")
    series = read_series(
        make_series(folder, 1, 32, bits=bits, signed=signed, intercept=intercept, padding=padding)
    )
    (derived,) = map(written, derive(series, shift_hu))
    words = derived.pixel_array
    mask, (stored,) = series.padding[0], stored_words(series.files)
    np.testing.assert_array_equal(words[mask], stored[mask])
    expected = np.rint(stored.astype(float) + np.float32(shift_hu))
    free = ~mask & (expected > (-1024 - intercept)) & (expected < (4095 if bits == 12 else 32767))
    np.testing.assert_allclose(words[free], expected[free], atol=1)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, JPEGLSLossless])
def test_every_encoding_derives_the_same_header(tmp_path: Path, syntax: str) -> None:
    paths = make_series(tmp_path, slices=2, patient_name="Müller^Jörg", padding=0)
    plain = [as_bytes(one) for one in derive(read_series(paths))]
    for path in paths:
        recode(path, syntax)
    assert [as_bytes(one) for one in derive(read_series(paths))] == plain


def test_a_value_that_breaks_its_type_stays_as_it_came_or_goes(tmp_path: Path) -> None:
    path = make_series(tmp_path, slices=1)[0]
    data = path.read_bytes()
    assert data.count(b"STUDYID1") == 0
    broken = data.replace(b"\x18\x00\x60\x00DS\x04\x00120 ", b"\x18\x00\x60\x00DS\x04\x00high")
    broken = broken.replace(
        b"\x18\x00\x60\x00DS\x06\x00120.0 ", b"\x18\x00\x60\x00DS\x06\x00high  "
    )
    assert broken != data
    path.write_bytes(broken)
    (derived,) = derive(read_series([path]))
    assert b"high" in as_bytes(derived)


def test_highdicom_reads_the_geometry(tmp_path: Path) -> None:
    series, derived = one_of(tmp_path)
    transform = ImageToReferenceTransformer(
        image_position=derived.ImagePositionPatient,
        image_orientation=derived.ImageOrientationPatient,
        pixel_spacing=derived.PixelSpacing,
    )
    row, column = 3, 5  # highdicom's image coordinates begin at the pixel's edge
    point = transform(np.array([[column + 0.5, row + 0.5]]))[0]
    np.testing.assert_allclose(point, (series.volume.affine @ (1, row, column, 1))[:3])
