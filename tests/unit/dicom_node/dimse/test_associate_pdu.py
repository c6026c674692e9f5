"""Association requests: whatever the bytes, an answer in bounded work; titles never collide."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, build_role
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import negotiate_as_acceptor
from pynetdicom.sop_class import CTImageStorage, StorageCommitmentPushModel, Verification
from support.raw_dicom import APPLICATION_CONTEXT, associate_rq, context, item, user_information

from dicom_node.dimse.acceptor_connection import Violation
from dicom_node.dimse.associate_pdu import MAX_REQUEST_BYTES, TITLE_BYTES, read_request, read_title
from dicom_node.dimse.negotiation import accept, describe_contexts
from dicom_node.dimse.peer import Peer
from dicom_node.dimse.proposal import request_pdu
from dicom_node.dimse.services import Service

TITLES = st.binary(min_size=1, max_size=TITLE_BYTES)


class Pacs:
    name, ae_title, host, port = "pacs", "DENOISE", "127.0.0.1", 104


def body_of(pdu: bytes) -> memoryview:
    return memoryview(pdu)[6:]


@given(first=TITLES, second=TITLES)
def test_two_titles_never_become_one(first: bytes, second: bytes) -> None:
    differ = first.strip(b" \0") != second.strip(b" \0")
    assert (read_title(first) != read_title(second)) is differ


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"PACS            ", "PACS"),
        (b"  PACS\0\0\0\0", "PACS"),
        (b"CT ROOM 1", "CT ROOM 1"),
        (b"\xe9", "\\xe9"),
        ("é".encode(), "\\xc3\\xa9"),
        (b"A\nB", "A\\x0aB"),
        (b"A\0B", "A\\x00B"),
        (b"A\\B", "A\\x5cB"),
        (b"\x1b[2J", "\\x1b[2J"),
    ],
)
def test_a_title_is_told_in_plain_letters(sent: bytes, told: str) -> None:
    assert read_title(sent) == told


@given(title=TITLES)
def test_a_title_holds_nothing_that_a_log_or_database_minds(title: bytes) -> None:
    assert all(" " <= letter <= "~" for letter in read_title(title))


@given(body=st.binary(max_size=400))
def test_any_bytes_are_a_request_or_a_violation(body: bytes) -> None:
    for tried in (body, bytes(associate_rq()[6:74]) + body):
        with contextlib.suppress(Violation):
            read_request(memoryview(tried))


@given(cut=st.integers(0, 220), flips=st.lists(st.tuples(st.integers(0, 219), st.integers(0, 255))))
def test_a_damaged_request_is_answered_or_a_violation(
    cut: int, flips: list[tuple[int, int]]
) -> None:
    data = bytearray(associate_rq()[6:])
    for at, value in flips:
        data[at % len(data)] = value
    try:
        request = read_request(memoryview(data)[:cut])
    except Violation:
        return
    accept(request, [build_context(CTImageStorage, ExplicitVRLittleEndian)])


def test_longer_than_the_limit_is_a_violation_whatever_it_is() -> None:
    body = bytes(associate_rq()[6:])
    padded = body + item(0x99, bytes(65531 - len(body)))
    assert len(padded) < MAX_REQUEST_BYTES
    read_request(memoryview(padded))
    with pytest.raises(Violation, match="65536 bytes"):
        read_request(memoryview(padded + item(0x99, bytes(60))))


def proposed() -> list[object]:
    return [
        build_context(CTImageStorage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]),
        build_context(Verification, ImplicitVRLittleEndian),
        build_context(StorageCommitmentPushModel, ImplicitVRLittleEndian),
        build_context("1.2.840.10008.5.1.4.1.1.4", ExplicitVRLittleEndian),
        build_context(CTImageStorage, "1.2.840.10008.1.2.4.50"),
    ]


ROLES = st.one_of(st.none(), st.tuples(st.booleans(), st.booleans()))


@given(role=ROLES, storage_role=ROLES)
def test_roles_and_results_are_as_pynetdicom_negotiates_them(
    role: tuple[bool, bool] | None, storage_role: tuple[bool, bool] | None
) -> None:
    request = A_ASSOCIATE_RQ()
    request.decode(requested())
    primitive = request.to_primitive()
    asked_roles = {}
    for sop_class, wanted in ((StorageCommitmentPushModel, role), (CTImageStorage, storage_role)):
        if wanted is not None and any(wanted):
            asked_roles[sop_class] = wanted
            primitive.user_information.append(
                build_role(sop_class, scu_role=wanted[0], scp_role=wanted[1])
            )
    supported = [
        build_context(CTImageStorage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]),
        build_context(Verification, ImplicitVRLittleEndian),
        Service(StorageCommitmentPushModel, [ImplicitVRLittleEndian], {}, True, True).context(),
    ]
    encoded = bytes(A_ASSOCIATE_RQ(primitive).encode())
    ours = answered(accept(read_request(body_of(encoded)), supported).answer)
    contexts, roles = negotiate_as_acceptor(
        primitive.presentation_context_definition_list, supported, asked_roles
    )
    assert [
        (cx.context_id, cx.result) for cx in ours.presentation_context_definition_results_list
    ] == [(cx.context_id, cx.result) for cx in contexts]
    assert {
        (r.sop_class_uid, r.scu_role, r.scp_role)
        for r in ours.user_information
        if hasattr(r, "scu_role")
    } == {(r.sop_class_uid, r.scu_role, r.scp_role) for r in roles}


def requested() -> bytes:
    peer: Peer = Pacs()  # type: ignore[assignment]
    body = request_pdu(peer, proposed(), calling_ae="SCANNER")  # type: ignore[arg-type]
    return bytes((1, 0)) + len(body).to_bytes(4, "big") + body


def answered(body: bytes) -> A_ASSOCIATE:
    pdu = A_ASSOCIATE_AC()
    pdu.decode(bytes((2, 0)) + len(body).to_bytes(4, "big") + body)
    return pdu.to_primitive()


def test_odd_uids_among_the_contexts_are_refused_one_by_one() -> None:
    """One of them is no reason to have nothing to do with a peer."""
    odd = [b"1.2.840.0113.7", b"not.a.uid", b"\xff\xfe", b"1" * 65]
    contexts = [context(2 * at + 3, uid) for at, uid in enumerate(odd)]
    items = item(0x10, APPLICATION_CONTEXT) + context(1) + b"".join(contexts) + user_information()
    request = read_request(body_of(associate_rq(items)))
    agreed = accept(request, [build_context(CTImageStorage, ExplicitVRLittleEndian)])
    assert list(agreed.contexts) == [1]
    assert [context.id for context in agreed.refused] == [3, 5, 7, 9]
    assert "\xff" not in describe_contexts(agreed.refused)
    answered(agreed.answer)
