from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    MRImageStorage,
    RTDoseStorage,
    SegmentationStorage,
    VLWholeSlideMicroscopyImageStorage,
)

from dicom_node.ct.scope import is_own_result, reason_out_of_scope, reason_unprocessable
from dicom_node.ct.uids import derived_uid, is_derived_uid, named_uid
from dicom_node.product import MANUFACTURER, MODEL_NAME

uids = st.from_regex(r"1\.2\.[1-9][0-9]{1,30}", fullmatch=True)


def original(**attributes: object) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.Modality = "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def test_an_original_axial_ct_image_is_for_us() -> None:
    assert reason_out_of_scope(original()) is None
    assert (
        reason_out_of_scope(original(ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]))
        is None
    )


@pytest.mark.parametrize(("attributes", "words"), [
    ({"Modality": "MR", "SOPClassUID": MRImageStorage}, "MR"),
    ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "Secondary Capture"),
    ({"SOPClassUID": EnhancedCTImageStorage}, "multi-frame"),
    ({"NumberOfFrames": 20}, "multi-frame"),
    ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour"),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
    ({"RescaleType": "ED"}, "not in HU"),
    ({"RescaleType": "US", "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"]}, "pixel values in US"),
    ({"Modality": "RTDOSE", "SOPClassUID": RTDoseStorage, "NumberOfFrames": 9}, "RTDOSE, not CT"),
    ({"Modality": "SEG", "SOPClassUID": SegmentationStorage, "NumberOfFrames": 9}, "SEG, not CT"),
    ({"Modality": "SM", "SOPClassUID": VLWholeSlideMicroscopyImageStorage,
      "NumberOfFrames": 9, "SamplesPerPixel": 3}, "SM, not CT"),
    ({"SOPClassUID": SegmentationStorage, "NumberOfFrames": 9}, "Segmentation Storage, not CT"),
])  # fmt: skip
def test_what_is_unprocessable_stays_so_whatever_the_rules_say(
    attributes: dict[str, object], words: str
) -> None:
    assert words in (reason_unprocessable(original(**attributes)) or "")
    assert words in (reason_out_of_scope(original(**attributes)) or "")


@pytest.mark.parametrize(("image_type", "words"), [
    (["DERIVED", "PRIMARY", "AXIAL"], "derived"),
    (["ORIGINAL", "SECONDARY", "AXIAL"], "secondary"),
    (["ORIGINAL", "PRIMARY", "OTHER"], "AXIAL"),
    ("ORIGINAL", "AXIAL"),
    ([], "AXIAL"),
])  # fmt: skip
def test_other_image_types_are_left_to_the_rules(image_type: object, words: str) -> None:
    assert reason_unprocessable(original(ImageType=image_type)) is None
    assert words in (reason_out_of_scope(original(ImageType=image_type)) or "")


@pytest.mark.parametrize("unit", [
    "HU", "HU_MOD", "Hounsfield Unit", "Houndsfield Unit", "HOUNSFIELD", "Hounsfield units", "hu",
    "", "US",
])  # fmt: skip
def test_hounsfield_units_are_known_by_any_spelling(unit: str) -> None:
    assert reason_unprocessable(original(RescaleType=unit)) is None


@given(st.text("ABCDEFGHIMNOSTUZ_ ", min_size=1, max_size=12))
def test_no_other_unit_is_taken_for_hounsfield(unit: str) -> None:
    expected = unit.strip() in ("", "HU", "HU_MOD", "US") or unit.replace(" ", "_") in ("HU_MOD",)
    letters = "".join(one for one in unit if one.isalpha())
    assert (reason_unprocessable(original(RescaleType=unit)) is None) == (
        expected or letters in ("HU", "HUMOD")
    )


def equipment() -> Dataset:
    item = Dataset()
    item.Manufacturer, item.ManufacturerModelName = MANUFACTURER, MODEL_NAME
    return item


@pytest.mark.parametrize("dataset", [
    original(Manufacturer=MANUFACTURER, ManufacturerModelName=MODEL_NAME),
    original(ContributingEquipmentSequence=[Dataset(), equipment()]),
    original(SeriesInstanceUID=derived_uid("1.2.3", "key")),
    original(SOPInstanceUID=derived_uid("1.2.3", "key")),
])  # fmt: skip
def test_any_sign_of_our_work_stops_the_loop(dataset: Dataset) -> None:
    assert is_own_result(dataset)
    assert "already denoised" in (reason_unprocessable(dataset) or "")


def test_a_simulated_scan_is_not_our_work() -> None:
    scan = original(Manufacturer=MANUFACTURER, ManufacturerModelName="CT simulator")
    scan.SeriesInstanceUID = named_uid("a", "b")
    assert not is_own_result(scan)


@given(uids, uids, st.text(min_size=1), st.text(min_size=1))
def test_derived_uids_are_valid_distinct_and_the_same_again(
    first: str, second: str, key: str, other: str
) -> None:
    uid = derived_uid(first, key)
    assert uid == derived_uid(first, key)
    assert len(uid) <= 64
    assert uuid.UUID(int=int(uid.removeprefix("2.25."))).variant == uuid.RFC_4122
    assert is_derived_uid(uid)
    assert (uid == derived_uid(second, key)) == (first == second)
    assert (uid == derived_uid(first, other)) == (key == other)


@given(st.uuids())
def test_uids_of_others_are_not_ours(value: uuid.UUID) -> None:
    assert not is_derived_uid(f"2.25.{value.int}")
    assert not is_derived_uid("1.2.840.10008.1.2")
    assert not is_derived_uid("2.25.")
