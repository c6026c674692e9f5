"""Slots over several processes, incidents folded, refusals remembered, labels and UIDs judged."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from support.receivers import settings_in

from dicom_node.audit import Peer
from dicom_node.dimse.negotiation import (
    TOO_MANY,
    TOO_MANY_OF_ADDRESS,
    TOO_MANY_OF_PEER,
    Rejection,
)
from dicom_node.encoding.actual_syntax import actual_syntax
from dicom_node.encoding.uid import is_conformant_uid, is_usable_uid
from dicom_node.health.refusals import MAX_BREAK_SECONDS, note_turned_away, turned_away
from dicom_node.receiving import admission as door
from dicom_node.receiving import incidents as folding
from dicom_node.receiving.admission import Admission
from dicom_node.receiving.incidents import (
    FOLDING_SECONDS,
    MAX_FOLDED_COUNT,
    SEVERAL,
    Incident,
    IncidentLog,
)
from dicom_node.receiving.slots import (
    MAX_IMAGELESS_SECONDS,
    MAX_PAUSE_SECONDS,
    Slot,
    SlotHolder,
    address_key,
)
from dicom_node.settings import Settings
from dicom_node.settings.sections import ListenSettings


def node(folder: Path, **listen: int) -> Settings:
    return settings_in(folder, listen=listen)


def admit(who: Admission, title: str, host: str) -> Slot | Rejection:
    return who.admit(title, host, verifies_only=False)


def test_the_limits_hold_over_processes_and_addresses(tmp_path: Path) -> None:
    settings = node(tmp_path, max_associations=5, max_associations_per_peer=2)
    first, second = Admission(settings), Admission(settings)  # as two receiver processes
    taken = [admit(first, "A", "192.0.2.1"), admit(second, "A", "192.0.2.1")]
    assert admit(first, "A", "192.0.2.1") == TOO_MANY_OF_PEER
    taken += [admit(second, title, "192.0.2.1") for title in ("B", "C")]
    assert admit(first, "D", "192.0.2.1") == TOO_MANY_OF_ADDRESS
    taken.append(admit(first, "A", "192.0.2.2"))  # the same title from elsewhere is another peer
    assert all(isinstance(slot, Slot) for slot in taken)
    assert admit(second, "E", "192.0.2.3") == TOO_MANY
    for slot in taken:
        assert isinstance(slot, Slot)
        slot.leave()
    assert isinstance(admit(second, "D", "192.0.2.1"), Slot)


def test_another_process_asks_for_a_place_and_its_holder_hears_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "MAX_WAIT_SECONDS", 0.0)
    settings = node(tmp_path, max_associations=2)
    first, second = Admission(settings), Admission(settings)
    fresh, idle = admit(first, "FRESH", "192.0.2.1"), admit(first, "IDLE", "192.0.2.2")
    assert isinstance(fresh, Slot)
    assert isinstance(idle, Slot)
    idle.mark(SlotHolder("IDLE", "192.0.2.2", admitted_at=-1000.0))
    assert not idle.should_leave()
    assert admit(second, "PACS", "192.0.2.3") == TOO_MANY
    assert idle.should_leave()
    assert not fresh.should_leave()
    idle.renew()  # an image has come meanwhile
    assert not idle.should_leave()


def test_a_place_is_kept_while_images_come() -> None:
    imageless = SlotHolder("A", "192.0.2.1", admitted_at=100.0)
    assert not imageless.may_be_given_up(100.0 + MAX_IMAGELESS_SECONDS)
    assert imageless.may_be_given_up(100.1 + MAX_IMAGELESS_SECONDS)
    carrying = SlotHolder("A", "192.0.2.1", admitted_at=0.0, last_image_at=100.0)
    assert not carrying.may_be_given_up(100.0 + MAX_PAUSE_SECONDS)
    assert carrying.may_be_given_up(100.1 + MAX_PAUSE_SECONDS)


@pytest.mark.parametrize(
    ("listen", "most"),
    [({}, 20), ({"max_associations": 8}, 10), ({"max_associations_per_address": 3}, 3)],
)
def test_an_address_gets_four_fifths_unless_it_is_set(listen: dict[str, int], most: int) -> None:
    assert ListenSettings.model_validate(listen).address_limit == most


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_addresses_of_one_network_of_ipv6_are_one(host: str, key: str) -> None:
    assert address_key(host) == key


class Told:
    """An audit trail and a clock to play with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.alerts: list[tuple[str, str]] = []
        self.lines: list[dict[str, str | int]] = []
        monkeypatch.setattr(folding, "log", self)
        self.incidents = IncidentLog(self, clock=lambda: self.now)  # type: ignore[arg-type]

    def security_alert(self, description: str, *, peer: Peer) -> None:
        self.alerts.append((description, peer.host))

    def warning(self, _event: str, **fields: str | int) -> None:
        self.lines.append(fields)

    def note(self, host: str, reason: str = "title") -> None:
        peer = Peer("ANY", host)
        self.incidents.report(Incident("refused", reason, peer, alert=f"refused: {reason}"))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


def test_a_thousand_knocks_are_four_messages_in_a_minute(told: Told) -> None:
    for _ in range(1000):
        told.note("192.0.2.1")
    assert told.alerts == [("refused: title", "192.0.2.1")] * 3
    told.note("192.0.2.2")
    told.note("192.0.2.1", "another")
    assert len(told.alerts) == len(told.lines) == 5
    told.now += FOLDING_SECONDS
    told.incidents.sweep()
    assert told.alerts[5:] == [("refused: title; 997 more within 60 s", "192.0.2.1")]
    assert told.lines[5]["repeated"] == 997
    told.note("192.0.2.1")  # still counted: it has not become quiet
    assert len(told.alerts) == 6
    told.incidents.close()
    assert told.alerts[6:] == [("refused: title; 1 more within 60 s", "192.0.2.1")]


def test_who_has_become_quiet_is_told_at_once_again(told: Told) -> None:
    for _ in range(3):
        told.note("192.0.2.1")
        told.now += FOLDING_SECONDS
        told.incidents.sweep()
    assert [text for text, _ in told.alerts] == ["refused: title"] * 3


def test_ten_thousand_addresses_are_remembered_together(told: Told) -> None:
    for number in range(10_000):
        told.note(f"10.0.{number >> 8}.{number & 255}")
    assert len(told.alerts) == MAX_FOLDED_COUNT + 3
    told.now += FOLDING_SECONDS
    told.incidents.sweep()
    assert told.alerts[-1][1] == SEVERAL
    assert told.lines[-1]["repeated"] == 10_000 - MAX_FOLDED_COUNT - 3


def test_a_run_of_refusals_is_long_after_minutes_and_ends_with_a_break(tmp_path: Path) -> None:
    assert turned_away(tmp_path, 0.0) is None
    for minute in range(6):
        note_turned_away(tmp_path, 1000.0 + 60 * minute)
    now = 1300.0
    found = turned_away(tmp_path, now)
    assert found is not None
    assert (found.count, found.seconds) == (6, 300.0)
    assert found.per_minute == pytest.approx(1.2)
    assert turned_away(tmp_path, now + MAX_BREAK_SECONDS + 1.0) is None
    note_turned_away(tmp_path, now + MAX_BREAK_SECONDS + 1.0)
    again = turned_away(tmp_path, now + MAX_BREAK_SECONDS + 2.0)
    assert again is not None
    assert (again.count, again.seconds) == (1, 0.0)


def test_a_record_from_the_future_counts_for_nothing(tmp_path: Path) -> None:
    note_turned_away(tmp_path, 5000.0)
    assert turned_away(tmp_path, 1000.0) is None


HEAD = ((0x0008, 0x0005, b"CS", b"ISO_IR 100"), (0x0008, 0x0016, b"UI", b"1.2.840.10008.5.1\0"))


def written(*, explicit: bool, head: tuple[tuple[int, int, bytes, bytes], ...] = HEAD) -> bytes:
    parts = []
    for group, element, vr, value in head:
        tag = struct.pack("<HH", group, element)
        length = struct.pack("<2sH", vr, len(value)) if explicit else struct.pack("<I", len(value))
        parts.append(tag + length + value)
    return b"".join(parts)


@pytest.mark.parametrize("announced", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("explicit", [True, False])
def test_a_data_set_is_taken_for_what_it_is(announced: str, explicit: bool) -> None:
    real = ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian
    assert actual_syntax(announced, written(explicit=explicit)) == real


@given(head=st.binary(max_size=60))
def test_what_makes_no_sense_is_what_it_was_announced(head: bytes) -> None:
    for other in (RLELossless, ExplicitVRBigEndian):
        assert actual_syntax(other, head) == other
    assert actual_syntax(ExplicitVRLittleEndian, b"\xff" + head) == ExplicitVRLittleEndian


@pytest.mark.parametrize(
    ("uid", "usable", "conformant"),
    [
        ("1.2.840.10008.1.2", True, True),
        ("1.2.826.0.1.3680043.8.498.20111103.05453119.1", True, False),
        ("1." + "2" * 63, True, False),
        ("1." + "2" * 127, False, False),
        ("1..2", False, False),
        ("1.2.", False, False),
        ("", False, False),
        ("1.2\n", False, False),
        ("1.2/3", False, False),
        ("1.\u0662", False, False),
    ],
)
def test_uids_that_name_one_object_are_usable(uid: str, usable: bool, conformant: bool) -> None:
    assert is_usable_uid(uid) is usable
    assert is_conformant_uid(uid) is conformant
