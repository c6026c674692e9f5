"""One series, one patient: what counts as another one, and that no value is ever said."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from support.ct_factory import change_header, make_series, recode

from dicom_node.ct.headers import load
from dicom_node.ct.patient import check_marks, check_one_patient, identity_of, marks_of
from dicom_node.ct.read import read_series
from dicom_node.errors import InputError

ALICE = {"PatientID": "PAT-A", "PatientName": "ALPHA^ANNA", "PatientBirthDate": "19700101"}
SECRETS = ("PAT-A", "PAT-B", "ALPHA", "BETA", "ANNA", "19700101", "19800202", "HOSPITAL")


def image(number: int = 1, **attributes: str) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.InstanceNumber = number
    for keyword, value in {**ALICE, **attributes}.items():
        setattr(dataset, keyword, value)
    return dataset


def refused(*headers: Dataset) -> str:
    with pytest.raises(InputError, match="several patients") as caught:
        check_one_patient(headers)
    assert not [secret for secret in SECRETS if secret in str(caught.value)]
    return str(caught.value)


@pytest.mark.parametrize(
    ("keyword", "one", "other"),
    [
        ("PatientID", "PAT-A", "PAT-B"),
        ("PatientID", "PAT-A", "pat-a"),
        ("PatientID", "007", "7"),
        ("IssuerOfPatientID", "HOSPITAL A", "HOSPITAL B"),
        ("PatientName", "ALPHA^ANNA", "BETA^ANNA"),
        ("PatientName", "ALPHA^ANNA=安娜", "ALPHA^ANNA=安妮"),
        ("PatientBirthDate", "19700101", "19800202"),
    ],
)
def test_another_value_is_another_patient(keyword: str, one: str, other: str) -> None:
    reason = refused(
        image(1, **{keyword: one}), image(2, **{keyword: one}), image(3, **{keyword: other})
    )
    assert keyword in reason
    assert "1 of 3 images (image 3)" in reason


def test_every_attribute_and_image_that_differs_is_named() -> None:
    others = {"PatientID": "PAT-B", "PatientName": "BETA^ANNA"}
    reason = refused(image(1), image(2, **others), image(3), image(4, **others), image(5))
    assert "PatientID and PatientName differ in 2 of 5 images (image 2, 4)" in reason


@pytest.mark.parametrize(
    ("keyword", "one", "other"),
    [
        ("PatientID", "PAT-A", " PAT-A  "),
        ("PatientID", "PAT-A", "PAT-A\0"),
        ("PatientName", "ALPHA^ANNA", "ALPHA^ANNA^^^"),
        ("PatientName", "ALPHA^ANNA", "ALPHA^ANNA=="),
        ("PatientName", "ALPHA^ANNA", "Alpha^Anna "),
        ("PatientName", "ALPHA^ANNA", "ALPHA ANNA"),
        ("PatientName", "ALPHA^ANNA", "ALPHA^ANNA=安娜"),
        ("PatientName", "MÜLLER", "Mu\N{COMBINING DIAERESIS}ller"),
        ("PatientName", "ALPHA^ANNA", ""),
        ("PatientBirthDate", "19700101", ""),
        ("PatientBirthDate", "19700101", "19700101 "),
        ("IssuerOfPatientID", "HOSPITAL", ""),
    ],
)
def test_the_same_patient_in_another_form_is_the_same(keyword: str, one: str, other: str) -> None:
    check_one_patient([image(1, **{keyword: one}), image(2, **{keyword: other})])


def test_an_absent_value_contradicts_nothing_but_binds_nothing() -> None:
    only_id = {"PatientName": "", "PatientBirthDate": ""}
    only_name = {"PatientID": "", "PatientBirthDate": ""}
    check_one_patient([image(1, **only_id), image(2)])
    check_one_patient([image(1, **only_name), image(2)])
    check_one_patient([image(1, **only_id), image(2), image(3, **only_name)])
    assert "neither identifier nor name" in refused(image(1, **only_id), image(2, **only_name))


def test_an_image_without_a_patient_does_not_belong_beside_others() -> None:
    nobody = {"PatientID": "", "PatientName": "", "PatientBirthDate": "19700101"}
    assert "1 of 3 images (image 2)" in refused(image(1), image(2, **nobody), image(3))
    check_one_patient([image(1, **nobody), image(2, **nobody)])


def test_images_without_any_identity_belong_together() -> None:
    check_one_patient([Dataset(), Dataset()])


def test_text_is_compared_in_its_character_set(tmp_path: Path) -> None:
    files = make_series(tmp_path, slices=3, patient_name="Müller^Jörg")
    change_header(files[1], SpecificCharacterSet="ISO_IR 100")
    headers = [load(path, pixels=False) for path in files]
    raw = [header.get_item("PatientName").value for header in headers]
    assert raw[0] != raw[1]
    check_one_patient(headers)


@pytest.mark.filterwarnings("ignore:Failed to decode")
def test_bytes_that_are_no_text_are_compared_as_bytes(tmp_path: Path) -> None:
    files = make_series(tmp_path, slices=3, patient_name="")
    for path, raw in zip(files, (b"\xe4\xf6", b"\xe4\xf6", b"\xe4\xfc"), strict=True):
        change_header(path, PatientName="xx")
        path.write_bytes(path.read_bytes().replace(b"PN\x02\0xx", b"PN\x02\0" + raw))
    headers = [load(path, pixels=False) for path in files]
    check_one_patient(headers[:2])
    with pytest.raises(InputError, match="PatientName differs in 1 of 3"):
        check_one_patient(headers)


def test_comparing_leaves_the_header_s_bytes_alone(tmp_path: Path) -> None:
    path = make_series(tmp_path, slices=1, patient_name="Müller")[0]
    recode(path, ImplicitVRLittleEndian)
    header = load(path, pixels=False)
    before = header.get_item("PatientName")
    identity_of(header)
    assert header.get_item("PatientName") is before


@pytest.mark.parametrize(
    "change",
    [{"PatientID": "PAT-B"}, {"PatientBirthDate": "19800202"}, {"PatientName": "BETA^ANNA"}],
)
def test_a_series_of_two_patients_is_not_read(tmp_path: Path, change: dict[str, str]) -> None:
    files = make_series(tmp_path, slices=6, change=lambda one: one.update(image()))
    for number, path in enumerate(files, start=1):
        change_header(path, InstanceNumber=number)
    read_series(files)
    change_header(files[3], **change)
    with pytest.raises(InputError, match=r"several patients.*1 of 6 images \(image 4\)"):
        read_series(files)


def test_two_patients_are_named_before_two_studies_or_positions(tmp_path: Path) -> None:
    files = make_series(tmp_path, slices=3)
    first = pydicom.dcmread(files[0])
    change_header(
        files[1],
        PatientID="PAT-B",
        StudyInstanceUID="1.2.3",
        ImagePositionPatient=first.ImagePositionPatient,
    )
    with pytest.raises(InputError, match="several patients"):
        read_series(files)


def test_marks_tell_patients_apart_and_nothing_else() -> None:
    marks = marks_of([image(1), image(2, PatientBirthDate="")], "1.2")
    assert set(marks) == {"PatientID", "PatientName", "PatientBirthDate"}
    assert all(len(mark) == 4 for mark in marks.values())
    assert marks != marks_of([image(1)], "1.3")
    check_marks(marks, marks_of([image(3, PatientName="Alpha^Anna^", PatientBirthDate="")], "1.2"))
    check_marks({}, {})
    with pytest.raises(InputError, match="several patients"):
        check_marks({}, marks)
    for change, key in (
        ({"PatientID": "PAT-B"}, "PatientID"),
        ({"PatientName": "BETA^ANNA"}, "PatientName"),
        ({"PatientID": "", "PatientName": ""}, "neither identifier nor name"),
    ):
        with pytest.raises(InputError, match=f"several patients.*{key}"):
            check_marks(marks, marks_of([image(3, **change)], "1.2"))


WORDS = st.text("abcÄß安^ =.-1", max_size=8)
HEADERS = st.builds(
    image,
    PatientID=WORDS,
    PatientName=WORDS,
    PatientBirthDate=st.sampled_from(["", "19700101", "1970.01.01", "19800202"]),
    IssuerOfPatientID=WORDS,
)


@given(st.lists(HEADERS, min_size=1, max_size=4))
def test_the_order_of_the_images_does_not_matter(headers: list[Dataset]) -> None:
    def passes(some: list[Dataset]) -> bool:
        try:
            check_one_patient(some)
        except InputError:
            return False
        return True

    assert passes(headers) == passes(headers[::-1]) == passes([*headers, headers[0]])
    assert all(passes([header, header]) for header in headers)
