"""The receiver against exhaustion: too many associations, excessive requests and data sets."""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pydicom import dcmread
from support.ct_factory import make_series
from support.peers import wait_until
from support.raw_dicom import (
    ABORT,
    APPLICATION_CONTEXT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    COMMAND,
    CT_IMAGE,
    EXPLICIT,
    IMPLICIT,
    LAST,
    P_DATA,
    RELEASE,
    VERIFICATION,
    RawConnection,
    associate_rq,
    context,
    echo_command,
    exchange,
    item,
    message,
    p_data,
    pdu,
    raw_connection,
    store_command,
    user_information,
)
from support.receivers import Running, Start, data_set_of

from dicom_node import telemetry
from dicom_node.health.refusals import turned_away
from dicom_node.receiving import slots

STRANGER = "127.0.0.2"
CONTEXTS = (context(1), context(3, VERIFICATION))
INVALID_PARAMETER = 6


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has brought no image is asked for his place at once."""
    monkeypatch.setattr(slots, "MAX_IMAGELESS_SECONDS", 0.0)


def associate(port: int, title: str, source: str = "127.0.0.1") -> RawConnection:
    """A connection that has asked for an association."""
    opened = RawConnection(port, source)
    opened.send(associate_rq(calling=title.encode(), contexts=CONTEXTS))
    opened.next_kind()
    return opened


def is_accepted(opened: RawConnection) -> bool:
    return opened.answers.kinds[:1] == [ASSOCIATE_AC]


def echo(opened: RawConnection) -> bool:
    """Whether an association that is kept open by echoes still answers."""
    sent = opened.send(p_data(echo_command(), COMMAND | LAST, number=3))
    return sent and opened.next_kind() == P_DATA


def store(opened: RawConnection, image: tuple[bytes, bytes]) -> int:
    """The status with which an image is answered."""
    opened.send(message(store_command(image[0]), image[1]))
    assert opened.next_kind() == P_DATA
    return opened.answers.statuses[-1]


@pytest.fixture
def image(tmp_path: Path) -> tuple[bytes, bytes]:
    """SOP Instance UID and data set."""
    (path,) = make_series(tmp_path / "ct", slices=1)
    return dcmread(path).SOPInstanceUID.encode(), data_set_of(path)


@contextlib.contextmanager
def held(lines: list[RawConnection]) -> Iterator[list[RawConnection]]:
    try:
        yield lines
    finally:
        for opened in lines:
            opened.close()


def test_one_address_leaves_places_to_others(start: Start) -> None:
    """However many titles it gives itself."""
    node = start(listen={"max_associations": 5, "max_associations_per_peer": 2})
    with held([associate(node.port, f"T{number}") for number in range(7)]) as lines:
        assert [is_accepted(opened) for opened in lines] == [True] * 4 + [False] * 3
        with held([associate(node.port, "PACS", STRANGER)]) as (other,):
            assert is_accepted(other)


def test_a_gateway_that_is_the_only_sender_gets_what_its_titles_get(
    start: Start, image: tuple[bytes, bytes]
) -> None:
    node = start(listen={"max_associations": 4, "max_associations_per_peer": 4})
    with held([associate(node.port, "GATEWAY") for _ in range(4)]) as lines:
        assert all(map(is_accepted, lines))
        assert [store(opened, image) for opened in lines] == [0] * 4
        with held([associate(node.port, "GATEWAY")]) as (fifth,):
            assert fifth.answers.kinds == [ASSOCIATE_RJ]
        assert [store(opened, image) for opened in lines] == [0] * 4


def test_places_kept_with_echoes_are_given_up_when_others_wait(
    start: Start, impatient: None, tmp_path: Path
) -> None:
    """The issue's attack: every place held by titles of one address, with an echo now and then."""
    node, files = start(listen={"max_associations": 4}), make_series(tmp_path / "scan", slices=2)
    with held([associate(node.port, f"T{number}") for number in range(4)]) as lines:
        assert all(map(is_accepted, lines))
        assert all(map(echo, lines))
        assert node.send(files) == [0, 0]
        assert node.send(files, calling="OTHER") == [0, 0]
        assert [echo(opened) for opened in lines].count(False) in (1, 2)
        assert any(ABORT in opened.answers.kinds for opened in lines)


def test_a_place_that_carries_images_is_not_given_up(
    start: Start, impatient: None, image: tuple[bytes, bytes]
) -> None:
    node = start(listen={"max_associations": 2})
    with held([associate(node.port, title) for title in ("SCANNER", "IDLER")]) as lines:
        carrying, idle = lines
        assert store(carrying, image) == 0
        with held([associate(node.port, "PACS")]) as (newcomer,):
            assert is_accepted(newcomer)
            assert store(newcomer, image) == 0
            assert not echo(idle)
            with held([associate(node.port, "LATE")]) as (late,):
                assert late.answers.kinds == [ASSOCIATE_RJ]
            assert store(carrying, image) == 0


def test_a_fresh_association_is_given_time_for_its_first_image(start: Start) -> None:
    node = start(listen={"max_associations": 2})
    with held([associate(node.port, title) for title in ("A", "B")]) as lines:
        with held([associate(node.port, "C")]) as (newcomer,):
            assert newcomer.answers.kinds == [ASSOCIATE_RJ]
        assert all(map(echo, lines))


def test_a_full_receiver_is_counted_and_reported_by_the_health_check(start: Start) -> None:
    node = start(listen={"max_associations": 2})
    telemetry.open_telemetry(node.settings.metrics_folder, process="receive")
    try:
        with held([associate(node.port, title) for title in ("A", "B", "C")]):
            assert counted(node, "full") == 1
    finally:
        telemetry.close_telemetry()
    found = turned_away(node.settings.metrics_folder, time.time())
    assert found is not None
    assert found.count == 1


def counted(node: Running, reason: str) -> float:
    registry = CollectorRegistry()
    telemetry.collect_into(registry, node.settings.metrics_folder)
    name = "dicom_node_associations_refused_total"
    return registry.get_sample_value(name, {"reason": reason}) or 0.0


def test_an_empty_pdu_is_invalid(start: Start) -> None:
    """PS3.8, 9.3.5: a P-DATA-TF PDU holds one presentation data value or more."""
    node = start()
    with held([associate(node.port, "EMPTY")]) as (opened,):
        opened.send(pdu(P_DATA, b""))
        assert opened.next_kind() == ABORT
        assert opened.answers.bodies[-1][3] == INVALID_PARAMETER


def test_a_request_of_a_megabyte_is_not_even_read(start: Start) -> None:
    node = start()
    contexts = b"".join(context(number % 256) for number in range(16000))
    request = associate_rq(item(0x10, APPLICATION_CONTEXT) + contexts + user_information())
    assert len(request) > 900_000
    with raw_connection(node.port) as opened:
        opened.send(request[:6])
        assert opened.next_kind() == ABORT
        assert opened.answers.bodies[-1][3] == INVALID_PARAMETER


@pytest.mark.parametrize(
    "contexts",
    [
        (context(1), context(1)),
        (context(2),),
        (context(0),),
        (*map(context, range(1, 256, 2)), context(1)),
        (item(0x20, b"\1\0\0\0" + item(0x30, CT_IMAGE)),),
        (item(0x20, b"\1\0\0\0" + item(0x40, EXPLICIT)),),
        (item(0x20, b"\1\0\0\0" + item(0x30, CT_IMAGE) * 2 + item(0x40, EXPLICIT)),),
        (item(0x20, b"\1\0\0\0" + item(0x30, CT_IMAGE) + item(0x40, EXPLICIT, 9999)),),
        (item(0x20, b"\1\0"),),
    ],
    ids=["twice", "even", "zero", "129", "no transfer", "no abstract", "two", "nested", "cut"],
)
def test_contexts_that_break_the_standard_end_the_connection(
    start: Start, contexts: tuple[bytes, ...]
) -> None:
    answers = exchange(start().port, associate_rq(contexts=contexts))
    assert answers.kinds == [ABORT]
    assert answers.bodies[-1][3] == INVALID_PARAMETER


def test_the_most_contexts_are_taken(start: Start) -> None:
    contexts = tuple(context(number, syntaxes=(EXPLICIT, IMPLICIT)) for number in range(1, 256, 2))
    answers = exchange(start().port, associate_rq(contexts=contexts) + RELEASE)
    assert answers.kinds[0] == ASSOCIATE_AC
    taken = item(0x40, EXPLICIT)
    assert all(
        item(0x21, bytes((number, 0, 0, 0)) + taken) in answers.bodies[0]
        for number in range(1, 256, 2)
    )


def test_unknown_items_are_ignored(start: Start) -> None:
    """PS3.8, 9.3.1: so that the standard can grow."""
    items = item(0x10, APPLICATION_CONTEXT) + context(1) + user_information() + item(0x99, b"new")
    assert exchange(start().port, associate_rq(items) + RELEASE).kinds[0] == ASSOCIATE_AC


@pytest.mark.parametrize("padding", [b" ", b"\0"])
def test_titles_may_be_padded_with_nul(start: Start, padding: bytes) -> None:
    node = start(accept={"calling": ["SCANNER"]})
    called, calling = (title.ljust(16, padding) for title in (b"DENOISE", b"SCANNER"))
    answers = exchange(node.port, associate_rq(calling=calling, called=called) + RELEASE)
    assert answers.kinds[0] == ASSOCIATE_AC
    assert answers.bodies[0][4:36] == called + calling  # as they came (PS3.8, table 9-17)


@pytest.mark.parametrize(
    ("proposed", "taken"),
    [
        ((b"1.2.840.10008.1.2.4.80", EXPLICIT, IMPLICIT), b"1.2.840.10008.1.2.4.80"),
        ((IMPLICIT, EXPLICIT), IMPLICIT),
        ((b"1.2.840.10008.1.2.2", EXPLICIT), EXPLICIT),
        ((b"1.2.840.10008.1.2.2",), b"1.2.840.10008.1.2.2"),
        ((b"1.2.3", IMPLICIT), IMPLICIT),
    ],
)
def test_the_first_syntax_that_is_proposed_and_read_is_taken(
    start: Start, proposed: tuple[bytes, ...], taken: bytes
) -> None:
    """Who has compressed images may be unable to decompress them."""
    request = associate_rq(contexts=(context(1, syntaxes=proposed),))
    answers = exchange(start().port, request + RELEASE)
    accepted = bytes((1, 0, 0, 0)) + item(0x40, taken)
    assert item(0x21, accepted) in answers.bodies[0]


def test_a_data_set_over_the_limit_is_refused_and_leaves_nothing(
    start: Start, image: tuple[bytes, bytes]
) -> None:
    node = start(accept={"max_image_mib": 1})
    with held([associate(node.port, "LONG")]) as (opened,):
        assert store(opened, (image[0], image[1] + bytes(1 << 20))) == 0xC000
        assert list(node.settings.inbox_folder.iterdir()) == []
        assert store(opened, image) == 0
    assert len(node.files()) == 1


def test_a_data_set_without_end_ends_the_association(
    start: Start, image: tuple[bytes, bytes]
) -> None:
    node = start(accept={"max_image_mib": 1})
    piece = p_data(bytes(16000), 0)
    with held([associate(node.port, "ENDLESS")]) as (opened,):
        opened.send(message(store_command(image[0]), None) + p_data(image[1], 0))
        while opened.send(piece * 16):
            pass
        opened.next_kind()
        assert opened.answers.statuses == []
    wait_until("nothing is left", lambda: not list(node.settings.inbox_folder.iterdir()))


def test_the_log_of_a_broken_association_names_its_refusals(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    mr, jpeg = b"1.2.840.10008.5.1.4.1.1.4", b"1.2.840.10008.1.2.4.50"
    contexts = (context(1, mr), context(3, CT_IMAGE, (jpeg,)))
    with raw_connection(start().port) as opened:
        opened.send(associate_rq(contexts=contexts))
        assert opened.next_kind() == ASSOCIATE_AC
        opened.send(pdu(ABORT, struct.pack(">4B", 0, 0, 0, 0)))
        opened.hang_up()
    told = wait_until(
        "it is told", lambda: "broken off" in (seen := capsys.readouterr().out) and seen
    )
    assert "MR Image Storage (Explicit VR Little Endian)" in str(told)
    assert "CT Image Storage (JPEG Baseline" in str(told)
