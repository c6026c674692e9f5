"""Command sets: written as pynetdicom writes them, and read back whatever the bytes are."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom import dimse_messages
from pynetdicom.dimse_primitives import C_STORE, N_ACTION
from pynetdicom.dsutils import encode

from dicom_node.dimse.command import (
    C_STORE_RQ,
    N_ACTION_RQ,
    RESPONSE,
    Command,
    MalformedCommand,
    decode,
)

CLASS, INSTANCE = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4.5"


def test_a_store_request_is_what_pynetdicom_would_send() -> None:
    primitive = C_STORE()
    primitive.MessageID, primitive.Priority = 7, 0
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = UID(CLASS), UID(INSTANCE)
    primitive.DataSet = BytesIO(b"data")
    message = dimse_messages.C_STORE_RQ()
    message.primitive_to_message(primitive)
    ours = Command(
        field=C_STORE_RQ, has_data_set=True, affected_class=CLASS, affected_instance=INSTANCE,
        message_id=7, priority=0,
    )  # fmt: skip
    assert ours.encode() == encode(message.command_set, True, True)


def test_an_action_request_is_what_pynetdicom_would_send() -> None:
    primitive = N_ACTION()
    primitive.MessageID, primitive.ActionTypeID = 1, 1
    primitive.RequestedSOPClassUID, primitive.RequestedSOPInstanceUID = UID(CLASS), UID(INSTANCE)
    primitive.ActionInformation = BytesIO(b"data")
    message = dimse_messages.N_ACTION_RQ()
    message.primitive_to_message(primitive)
    ours = Command(
        field=N_ACTION_RQ, has_data_set=True, requested_class=CLASS, requested_instance=INSTANCE,
        message_id=1, action_type=1,
    )  # fmt: skip
    assert ours.encode() == encode(message.command_set, True, True)


numbers = st.none() | st.integers(0, 0xFFFF)
uids = st.just("") | st.from_regex(r"[0-9]+(\.[0-9]+){0,8}", fullmatch=True)


@given(
    st.builds(
        Command,
        field=st.integers(0, 0xFFFF),
        has_data_set=st.booleans(),
        affected_class=uids,
        requested_class=uids,
        affected_instance=uids,
        requested_instance=uids,
        message_id=numbers,
        responded_to=numbers,
        priority=numbers,
        status=numbers,
        event_type=numbers,
        action_type=numbers,
        error_comment=st.just("") | st.from_regex(r"[!-\[\]-~]{1,64}", fullmatch=True),
    )
)
def test_what_is_written_is_read_back(command: Command) -> None:
    assert decode(command.encode()) == command
    assert command.is_response == bool(command.field & RESPONSE)


def test_a_comment_is_one_short_line_of_plain_letters() -> None:
    answer = Command(field=C_STORE_RQ | RESPONSE, error_comment="Größe\\" + "x" * 100)
    assert decode(answer.encode()).error_comment == "Gr??e/" + "x" * 58


@given(st.binary(max_size=200))
def test_bytes_that_are_no_command_are_told(data: bytes) -> None:
    try:
        assert 0 <= decode(data).field <= 0xFFFF
    except MalformedCommand:
        return


@given(st.integers(1, 60))
def test_a_command_that_is_cut_off_is_told(size: int) -> None:
    whole = Command(field=C_STORE_RQ, affected_class=CLASS, message_id=1).encode()
    cut = whole[: min(size, len(whole) - 1)]
    try:
        assert decode(cut).field == C_STORE_RQ  # cut between two elements
    except MalformedCommand:
        return


def test_a_command_without_its_field_is_told() -> None:
    with pytest.raises(MalformedCommand, match="no command field"):
        decode(b"")
