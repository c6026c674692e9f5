"""Data sets of storage commitment, written and read strictly (PS3.4, annex J.3).

The SCU requests commitment to instances under a transaction UID (N-ACTION). The SCP reports, on the
same association or days later on one of its own, which of them it has committed to and which not
(N-EVENT-REPORT). This node has both roles.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import decode, encode
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    EnhancedCTImageStorage,
)

from dicom_node.dimse.status import (
    CLASS_INSTANCE_CONFLICT,
    INVALID_ARGUMENT_VALUE,
    MISSING_ATTRIBUTE,
    NO_SUCH_SOP_INSTANCE,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
)
from dicom_node.encoding.elements import Bounds, ElementWalk, IrregularDataSet
from dicom_node.encoding.uid import is_usable_uid
from dicom_node.errors import InputError, UnreadableFile

STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
"""SOP class of the push model, the only one that the standard still has."""

WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
"""SOP instance of every N-ACTION and N-EVENT-REPORT (PS3.4, J.3.5)."""

TRANSFER_SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

REQUEST_COMMITMENT = 1
"""Action type of the N-ACTION."""

ALL_COMMITTED, FAILURES_EXIST = 1, 2
"""Event types of the N-EVENT-REPORT."""

MAX_REFERENCES = 30_000
"""Instances of one transaction; one SQLite statement takes 32766 values."""

BOUNDS = Bounds(elements=12 * MAX_REFERENCES, items=2 * MAX_REFERENCES)
"""Limits of a report: committed and failed instances, each with up to five attributes."""

MAX_IRREGULAR_BYTES = 1 << 16
"""Longest irregular data set that is still read by pydicom."""

STORED_CLASSES = frozenset({CTImageStorage, EnhancedCTImageStorage})
"""SOP classes of which this node can hold instances."""

Item = tuple[str, str]
"""SOP Class UID and SOP Instance UID of an instance."""


class MalformedCommitment(InputError):  # noqa: N818 - the name says what the data set is
    """A data set that is no valid request or report.

    Attributes:
        status: Status to answer with (PS3.7, annex C).
    """

    def __init__(self, what: str, status: int) -> None:
        super().__init__(what)
        self.status = status


@dataclass(frozen=True)
class CommitmentRequest:
    """A peer's request for commitment to instances."""

    transaction_uid: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class CommitmentReport:
    """A peer's report on a transaction.

    Attributes:
        committed: SOP Instance UIDs that it has committed to.
        failed: Failure reason by SOP Instance UID of the others.
    """

    transaction_uid: str
    committed: frozenset[str]
    failed: Mapping[str, int]


def write_request(transaction_uid: str, items: Sequence[Item], transfer_syntax: str) -> bytes:
    """Encode the data set of an N-ACTION (PS3.4, table J.3-1)."""
    dataset = Dataset()
    dataset.TransactionUID = transaction_uid
    dataset.ReferencedSOPSequence = [_reference(item) for item in items]
    return _encoded(dataset, transfer_syntax)


def write_report(
    transaction_uid: str, items: Sequence[Item], held: Collection[str], transfer_syntax: str
) -> tuple[int, bytes]:
    """Encode the data set of an N-EVENT-REPORT (PS3.4, tables J.3-2 and J.3-3).

    Args:
        transaction_uid: Transaction UID of the request.
        items: Instances of the request.
        held: SOP Instance UIDs, of those, that this node holds.
        transfer_syntax: Transfer syntax of the data set.

    Returns:
        Event type and encoded data set.
    """
    dataset = Dataset()
    dataset.TransactionUID = transaction_uid
    reasons = {item: _failure_reason(item, held) for item in items}
    committed = [_reference(item) for item, reason in reasons.items() if reason is None]
    failed = [_failure(item, reason) for item, reason in reasons.items() if reason is not None]
    if committed:
        dataset.ReferencedSOPSequence = committed
    if failed:
        dataset.FailedSOPSequence = failed
    event_type = FAILURES_EXIST if failed else ALL_COMMITTED
    return event_type, _encoded(dataset, transfer_syntax)


def read_request(data: bytes, transfer_syntax: str) -> CommitmentRequest:
    """Read the data set of an N-ACTION.

    Raises:
        MalformedCommitment: It is not a valid one; the error carries the status to answer with.
    """
    dataset = _decoded(data, transfer_syntax)
    items = tuple(dict.fromkeys(_references(dataset, "ReferencedSOPSequence")))
    if not items:
        raise MalformedCommitment("The request names no instance.", MISSING_ATTRIBUTE)
    return CommitmentRequest(_transaction(dataset), items)


def read_report(data: bytes, transfer_syntax: str) -> CommitmentReport:
    """Read the data set of an N-EVENT-REPORT.

    An instance that is named both as committed and as failed counts as failed.

    Raises:
        MalformedCommitment: It is not a valid one; the error carries the status to answer with.
    """
    dataset = _decoded(data, transfer_syntax)
    committed = {sop_uid for _, sop_uid in _references(dataset, "ReferencedSOPSequence")}
    failed = dict(_failures(dataset))
    if not committed and not failed:
        raise MalformedCommitment("The report names no instance.", MISSING_ATTRIBUTE)
    return CommitmentReport(_transaction(dataset), frozenset(committed - failed.keys()), failed)


def _reference(item: Item) -> Dataset:
    dataset = Dataset()
    dataset.ReferencedSOPClassUID, dataset.ReferencedSOPInstanceUID = item
    return dataset


def _failure(item: Item, reason: int) -> Dataset:
    dataset = _reference(item)
    dataset.FailureReason = reason
    return dataset


def _failure_reason(item: Item, held: Collection[str]) -> int | None:
    """The failure reason of an instance; None when this node holds it."""
    sop_class_uid, sop_uid = item
    if sop_uid not in held:
        return NO_SUCH_SOP_INSTANCE
    return None if sop_class_uid in STORED_CLASSES else CLASS_INSTANCE_CONFLICT


def _encoded(dataset: Dataset, transfer_syntax: str) -> bytes:
    syntax = UID(transfer_syntax)
    encoded = encode(dataset, syntax.is_implicit_VR, syntax.is_little_endian)
    if encoded is None:
        raise MalformedCommitment("The data set cannot be encoded.", PROCESSING_FAILURE)
    return encoded


def _decoded(data: bytes, transfer_syntax: str) -> Dataset:
    """Decode a data set and convert every value, so that no later access can fail."""
    _check_size(data, transfer_syntax)
    syntax = UID(transfer_syntax)
    try:
        dataset: Dataset = decode(BytesIO(data), syntax.is_implicit_VR, syntax.is_little_endian)
        for _ in dataset.iterall():
            pass
    except Exception as error:  # pydicom raises whatever a damaged value led to
        raise MalformedCommitment("The data set cannot be read.", PROCESSING_FAILURE) from error
    return dataset


def _check_size(data: bytes, transfer_syntax: str) -> None:
    """Count items and elements before building any: 16 MiB hold two million empty items."""
    try:
        ElementWalk(transfer_syntax, BOUNDS).advance(data)
    except UnreadableFile as error:
        raise MalformedCommitment(str(error), RESOURCE_LIMITATION) from error
    except IrregularDataSet as error:
        if len(data) > MAX_IRREGULAR_BYTES:
            raise MalformedCommitment("The data set cannot be read.", PROCESSING_FAILURE) from error


def _transaction(dataset: Dataset) -> str:
    if "TransactionUID" not in dataset:
        raise MalformedCommitment("The Transaction UID is missing.", MISSING_ATTRIBUTE)
    return _uid(dataset, "TransactionUID")


def _references(dataset: Dataset, keyword: str) -> Iterator[Item]:
    for reference in _sequence(dataset, keyword):
        yield (
            _uid(reference, "ReferencedSOPClassUID"),
            _uid(reference, "ReferencedSOPInstanceUID"),
        )


def _failures(dataset: Dataset) -> Iterator[tuple[str, int]]:
    for failure in _sequence(dataset, "FailedSOPSequence"):
        reason = failure.get("FailureReason")
        known = reason if isinstance(reason, int) else PROCESSING_FAILURE
        yield _uid(failure, "ReferencedSOPInstanceUID"), known


def _sequence(dataset: Dataset, keyword: str) -> Sequence[Dataset]:
    if keyword not in dataset:
        return ()
    element = dataset[keyword]
    if element.VR != "SQ":
        raise MalformedCommitment(f"{keyword} is no sequence.", INVALID_ARGUMENT_VALUE)
    items: Sequence[Dataset] = element.value
    if len(items) > MAX_REFERENCES:
        raise MalformedCommitment(
            f"More than {MAX_REFERENCES} instances are in one transaction.", RESOURCE_LIMITATION
        )
    return items


def _uid(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    if not isinstance(value, UID) or not is_usable_uid(value):
        raise MalformedCommitment(f"{keyword} is missing or malformed.", INVALID_ARGUMENT_VALUE)
    return str(value)
