"""The data sets of storage commitment: what is written is read, and nothing else is."""

from __future__ import annotations

import contextlib
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import decode, encode
from pynetdicom.sop_class import CTImageStorage, MRImageStorage

from dicom_node.dimse import commitment
from dicom_node.dimse.commitment import (
    ALL_COMMITTED,
    FAILURES_EXIST,
    MalformedCommitment,
    read_report,
    read_request,
    write_report,
    write_request,
)
from dicom_node.dimse.status import (
    CLASS_INSTANCE_CONFLICT,
    INVALID_ARGUMENT_VALUE,
    MISSING_ATTRIBUTE,
    NO_SUCH_SOP_INSTANCE,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
)
from dicom_node.encoding.elements import ElementWalk

TRANSACTION = "1.2.826.0.1.3680043.8.498.1"
ITEMS = [(CTImageStorage, f"1.2.3.{number}") for number in range(1, 4)]
SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


def encoded(dataset: Dataset) -> bytes:
    data = encode(dataset, False, True)
    assert data is not None
    return data


def reference(sop_class: str = CTImageStorage, sop_uid: str = "1.2.3") -> Dataset:
    dataset = Dataset()
    dataset.ReferencedSOPClassUID = sop_class
    dataset.ReferencedSOPInstanceUID = sop_uid
    return dataset


def request(**attributes: object) -> Dataset:
    dataset = Dataset()
    dataset.TransactionUID = TRANSACTION
    dataset.ReferencedSOPSequence = [reference()]
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_request_is_read_as_it_was_written(syntax: str) -> None:
    asked = read_request(write_request(TRANSACTION, ITEMS, syntax), syntax)
    assert (asked.transaction_uid, list(asked.items)) == (TRANSACTION, ITEMS)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_report_says_what_is_held_and_what_is_not(syntax: str) -> None:
    held = {"1.2.3.1", "1.2.3.3"}
    event_type, data = write_report(TRANSACTION, ITEMS, held, syntax)
    report = read_report(data, syntax)
    assert event_type == FAILURES_EXIST
    assert report.transaction_uid == TRANSACTION
    assert report.committed == held
    assert report.failed == {"1.2.3.2": NO_SUCH_SOP_INSTANCE}


def test_a_report_without_failures_says_so() -> None:
    held = {sop_uid for _, sop_uid in ITEMS}
    event_type, data = write_report(TRANSACTION, ITEMS, held, ExplicitVRLittleEndian)
    assert event_type == ALL_COMMITTED
    assert "FailedSOPSequence" not in decode(BytesIO(data), False, True)


def test_an_instance_of_another_class_is_not_committed_to() -> None:
    items = [(MRImageStorage, "1.2.3.1")]
    _, data = write_report(TRANSACTION, items, {"1.2.3.1"}, ExplicitVRLittleEndian)
    assert read_report(data, ExplicitVRLittleEndian).failed == {"1.2.3.1": CLASS_INSTANCE_CONFLICT}


def test_an_instance_asked_for_twice_counts_once() -> None:
    data = encoded(request(ReferencedSOPSequence=[reference(), reference()]))
    assert len(read_request(data, ExplicitVRLittleEndian).items) == 1


def test_an_instance_both_committed_and_failed_has_failed() -> None:
    failed = reference()
    failed.FailureReason = PROCESSING_FAILURE
    data = encoded(request(FailedSOPSequence=[failed]))
    report = read_report(data, ExplicitVRLittleEndian)
    assert (report.committed, report.failed) == (frozenset(), {"1.2.3": PROCESSING_FAILURE})


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom says what is wrong with a UID
@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"TransactionUID": ""}, INVALID_ARGUMENT_VALUE),
        ({"TransactionUID": "1..2"}, INVALID_ARGUMENT_VALUE),
        ({"TransactionUID": ["1.2", "1.3"]}, INVALID_ARGUMENT_VALUE),
        ({"ReferencedSOPSequence": []}, MISSING_ATTRIBUTE),
        ({"ReferencedSOPSequence": [Dataset()]}, INVALID_ARGUMENT_VALUE),
        ({"ReferencedSOPSequence": [reference(sop_uid="x")]}, INVALID_ARGUMENT_VALUE),
        ({"ReferencedSOPSequence": [reference(sop_class="")]}, INVALID_ARGUMENT_VALUE),
    ],
)
def test_a_wrong_request_says_what_to_answer(wrong: dict[str, object], status: int) -> None:
    with pytest.raises(MalformedCommitment) as error:
        read_request(encoded(request(**wrong)), ExplicitVRLittleEndian)
    assert error.value.status == status


def test_a_request_without_transaction_is_refused() -> None:
    dataset = request()
    del dataset.TransactionUID
    with pytest.raises(MalformedCommitment) as error:
        read_request(encoded(dataset), ExplicitVRLittleEndian)
    assert error.value.status == MISSING_ATTRIBUTE


@pytest.mark.parametrize("keyword", ["ReferencedSOPSequence", "FailedSOPSequence"])
def test_items_by_the_hundred_thousand_are_refused_before_they_are_built(
    monkeypatch: pytest.MonkeyPatch, keyword: str
) -> None:
    def built(*_: object) -> None:
        raise AssertionError("the data set was decoded")

    monkeypatch.setattr("dicom_node.dimse.commitment.decode", built)
    tag = {"ReferencedSOPSequence": b"\x08\0\x99\x11", "FailedSOPSequence": b"\x08\0\x98\x11"}
    items = b"\xfe\xff\x00\xe0\0\0\0\0" * 500_000
    data = tag[keyword] + b"SQ\0\0" + len(items).to_bytes(4, "little") + items
    for read in (read_request, read_report):
        with pytest.raises(MalformedCommitment) as told:
            read(data, ExplicitVRLittleEndian)
        assert told.value.status == RESOURCE_LIMITATION


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_as_many_instances_as_are_taken_are_within_the_bounds(syntax: str) -> None:
    _, one = write_report(TRANSACTION, ITEMS[:1], set(), syntax)
    _, two = write_report(TRANSACTION, ITEMS[:2], set(), syntax)
    start = one.index(b"\xfe\xff\x00\xe0")
    item = two[start : start + len(two) - len(one)]
    items = item * commitment.MAX_REFERENCES
    sequence = one[:start]
    data = sequence[: len(sequence) - 4] + len(items).to_bytes(4, "little") + items
    ElementWalk(syntax, commitment.BOUNDS).advance(data)


def test_too_many_references_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commitment, "MAX_REFERENCES", 2)
    with pytest.raises(MalformedCommitment) as error:
        read_request(
            write_request(TRANSACTION, ITEMS, ExplicitVRLittleEndian), ExplicitVRLittleEndian
        )
    assert error.value.status == RESOURCE_LIMITATION


@pytest.mark.filterwarnings("ignore")  # pydicom warns of what it meets in them
@settings(max_examples=300)
@given(data=st.data())
def test_damaged_bytes_are_refused_and_nothing_else_happens(data: st.DataObject) -> None:
    whole = bytearray(write_report(TRANSACTION, ITEMS, {"1.2.3.1"}, ExplicitVRLittleEndian)[1])
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=4)):
        whole[at] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for read in (read_request, read_report):
        with contextlib.suppress(MalformedCommitment):
            read(cut, ExplicitVRLittleEndian)
