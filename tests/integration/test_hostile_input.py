"""Hostile input: damaged data sets, PDUs and commands against the running receiver process.

Whatever is thrown at it, the receiver neither ends nor hangs, keeps no thread, file or memory,
tells of it (what repeats, with a number), and takes nothing in that cannot be read back. ``make
torture`` throws a hundred thousand cases, ``make test`` some hundreds; ``HOSTILE_CASES`` says
how many, ``HOSTILE_SEED`` which ones.
"""

from __future__ import annotations

import contextlib
import random
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)
from support.ct_factory import make_series, recode
from support.mutation import bomb, conversation, deflated, mutated_data_set, mutated_stream
from support.peers import wait_until
from support.raw_dicom import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    COMMAND,
    COMMITMENT,
    CT_IMAGE,
    EXPLICIT,
    IMPLICIT,
    LAST,
    RELEASE,
    RELEASE_RP,
    VERIFICATION,
    Answers,
    RawConnection,
    associate_rq,
    command,
    context,
    element,
    exchange,
    item,
    message,
    p_data,
    raw_connection,
    short,
    store,
    store_command,
    user_information,
)
from support.receiver_under_attack import (
    CASES,
    SEED,
    SETTLE_SECONDS,
    TORTURE,
    Target,
    check_flat,
    halves,
    in_parallel,
    receiver_under_attack,
    staying_unharmed,
)

STREAMS, DATA_SETS, STRUCTURED = CASES // 3, CASES // 3, CASES // 6

ANSWERED_STATUSES = {0x0000, 0xA700, 0xA900, 0xC000}

CT_FILE = Path(str(get_testdata_file("CT_small.dcm")))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with receiver_under_attack(tmp_path_factory.mktemp("hostile")) as target:
        yield target


@pytest.fixture
def unharmed(target: Target) -> Iterator[Target]:
    with staying_unharmed(target):
        yield target


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[bytes, bytes, bytes]]:
    """Real data sets: transfer syntax, SOP Instance UID, bytes. The first is uncompressed."""
    folder = tmp_path_factory.mktemp("corpus")
    found = [encoded(CT_FILE)]
    for at, syntax in enumerate(
        (ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, JPEGLSLossless)
    ):
        (path,) = make_series(folder / str(at), slices=1, size=24, study=f"corpus {at}")
        recode(path, syntax)
        found.append(encoded(path))
    return found


def encoded(path: Path) -> tuple[bytes, bytes, bytes]:
    """Transfer syntax, SOP Instance UID and data set of a file, as its bytes are."""
    meta = dcmread(path, stop_before_pixels=True).file_meta
    data = path.read_bytes()[144 + meta.FileMetaInformationGroupLength :]
    uids = (meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID)
    return uids[0].encode(), uids[1].encode(), data


def calling(case: int, kind: str = "CASE") -> bytes:
    return f"{kind}{case}".encode()


def well_ended(answer: Answers) -> bool:
    """Whether everything was answered with success and the association released."""
    return RELEASE_RP in answer.kinds and ABORT not in answer.kinds and not any(answer.statuses)


def stored(answer: Answers) -> bool:
    return answer.statuses == [0x0000]


def test_damaged_streams(unharmed: Target, corpus: list[tuple[bytes, bytes, bytes]]) -> None:
    """PDUs cut, flipped, shuffled, repeated, left out, of wrong kind and length."""
    _, sop_uid, data = corpus[0]

    def attack(case: int) -> Answers:
        rng = random.Random(f"{SEED} stream {case}")
        return exchange(
            unharmed.port, mutated_stream(conversation(data, sop_uid, calling(case, "STREAM")), rng)
        )

    warming, steady = halves(STREAMS)
    answers = in_parallel(warming, attack)
    before = unharmed.resting_kb()
    answers += in_parallel(steady, attack)
    check_flat(unharmed, before, "damaged streams")
    refused = sum(not well_ended(answer) for answer in answers)
    assert refused > STREAMS / 2
    unharmed.expected += refused


def test_a_stream_that_ends_at_any_byte(
    unharmed: Target, corpus: list[tuple[bytes, bytes, bytes]]
) -> None:
    _, sop_uid, data = corpus[0]
    pdus = conversation(data[:600], sop_uid, b"ENDS")
    whole = b"".join(pdus)
    step = 1 if TORTURE else 17
    in_parallel(range(0, len(whole), step), lambda end: exchange(unharmed.port, whole[:end]))


def test_damaged_data_sets(unharmed: Target, corpus: list[tuple[bytes, bytes, bytes]]) -> None:
    """Each gets a DIMSE status, or the association ends; what was kept can be read back."""

    def attack(case: int) -> Answers:
        rng = random.Random(f"{SEED} data set {case}")
        syntax, sop_uid, data = corpus[case % len(corpus)]
        damaged = mutated_data_set(data, rng)
        if case % 10 == 9:
            syntax, sop_uid, data = corpus[0]
            syntax, damaged = DeflatedExplicitVRLittleEndian.encode(), deflated(data, rng)
        return store(unharmed.port, damaged, sop_uid=sop_uid, syntax=syntax, calling=calling(case))

    warming, steady = halves(DATA_SETS)
    answers = in_parallel(warming, attack)
    before = unharmed.resting_kb()
    answers += in_parallel(steady, attack)
    check_flat(unharmed, before, "damaged data sets")
    refused = {calling(case).decode() for case, answer in enumerate(answers) if not stored(answer)}
    wait_until("each refusal has its line", lambda: refused <= unharmed.callers())
    statuses = {status for answer in answers for status in answer.statuses}
    assert statuses <= ANSWERED_STATUSES
    assert {0x0000, 0xC000} <= statuses
    assert [path.name for path in unharmed.kept if not readable(path)] == []


def readable(path: Path) -> bool:
    """Whether a file can be read to its end and says who it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = dcmread(path)
            return bool(dataset.SOPInstanceUID and dataset.SeriesInstanceUID and len(dataset) > 0)
        except Exception:
            return False


def test_a_deflated_bomb_costs_no_memory(
    unharmed: Target, corpus: list[tuple[bytes, bytes, bytes]]
) -> None:
    """A few hundred kB that inflate to hundreds of MiB."""
    _, sop_uid, data = corpus[0]
    syntax = DeflatedExplicitVRLittleEndian.encode()
    store(unharmed.port, bomb(data), sop_uid=sop_uid, syntax=syntax, calling=b"BOMB")
    assert unharmed.status("VmHWM") / 1024 < 250


UIDS = st.one_of(
    st.sampled_from((b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.5.1.4.1.1.2", b"1.2.840.10008.1.2")),
    st.binary(max_size=80),
)
CLAIMS = st.one_of(st.none(), st.integers(0, 65535))
CONTEXTS = st.builds(
    lambda number, abstract, syntaxes: context(number, abstract, syntaxes),
    st.integers(0, 255),
    UIDS,
    st.lists(UIDS, max_size=4),
)
ITEMS = st.one_of(
    CONTEXTS,
    st.builds(item, st.sampled_from((0x10, 0x20, 0x50)), st.binary(max_size=60), CLAIMS),
    st.builds(item, st.integers(0, 255), st.binary(max_size=60), CLAIMS),
    st.builds(
        lambda kind, body, claim: user_information(further=item(kind, body, claim)),
        st.sampled_from((0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59)),
        st.binary(max_size=60),
        CLAIMS,
    ),
)
REQUESTS = st.builds(
    lambda items, calling, called, version: associate_rq(
        b"".join(items), calling=calling[:16], called=called, version=version
    ),
    st.lists(ITEMS, max_size=6),
    st.binary(max_size=16),
    st.sampled_from((b"DENOISE", b"OTHER", b"", b"\xff" * 16)),
    st.sampled_from((0, 1, 2, 3, 65535)),
)


WELL_FORMED = (
    b"\1\0",
    b"1.2.840.10008.1.20.1\0\0",
    b"1.2.840.10008.1.20.1.1",
    CT_IMAGE,
    b"1.2.3\0",
)
"""Values that fit somewhere in a command set."""


@contextlib.contextmanager
def associated(port: int) -> Iterator[RawConnection]:
    with raw_connection(port) as opened:
        contexts = (
            context(1),
            context(3, VERIFICATION, (IMPLICIT,)),
            context(5, COMMITMENT, (EXPLICIT,)),
        )
        opened.send(associate_rq(calling=b"COMMANDS", contexts=contexts))
        assert opened.next_kind() == ASSOCIATE_AC
        yield opened


@settings(max_examples=STRUCTURED, suppress_health_check=list(HealthCheck))
@given(request=REQUESTS)
def structured_request(port: int, request: bytes) -> None:
    answers = exchange(port, request + RELEASE)
    assert answers.closed


@settings(max_examples=STRUCTURED, suppress_health_check=list(HealthCheck))
@given(
    elements=st.lists(
        st.builds(
            element,
            st.sampled_from(
                (0x0002, 0x0003, 0x0110, 0x0700, 0x0900, 0x1000, 0x1001, 0x1002, 0x1008)
            ),
            st.one_of(st.sampled_from(WELL_FORMED), st.binary(max_size=80)),
        ),
        max_size=9,
    ),
    field=st.one_of(st.sampled_from((0x0001, 0x0030, 0x0100, 0x0130)), st.integers(0, 65535)),
    number=st.sampled_from((1, 1, 3, 5, 5, 7)),
    data_set=st.one_of(st.none(), st.binary(max_size=50)),
    control=st.one_of(st.just(COMMAND | LAST), st.integers(0, 255)),
)
def structured_command(
    port: int,
    elements: list[bytes],
    field: int,
    number: int,
    data_set: bytes | None,
    control: int,
) -> None:
    promised = short(0x0800, 257 if data_set is None else 1)
    with associated(port) as opened:
        commands = command(short(0x0100, field), promised, *elements)
        opened.send(p_data(commands, control, number=number))
        if data_set is not None:
            opened.send(p_data(data_set, LAST, number=number))
        opened.send(RELEASE)
        assert opened.hang_up().closed


def test_association_requests_of_any_items(unharmed: Target) -> None:
    structured_request(unharmed.port)


def test_commands_of_any_elements(unharmed: Target) -> None:
    structured_command(unharmed.port)


def test_a_pdu_of_four_gib_is_not_waited_for(unharmed: Target) -> None:
    with raw_connection(unharmed.port) as opened:
        opened.send(b"\x01\x00\xff\xff\xff\xff" + bytes(70))
        opened.next_kind()
        assert opened.answers.closed or opened.hang_up().closed
    with associated(unharmed.port) as opened:
        opened.send(b"\x04\x00\xff\xff\xff\xfa" + b"\xff\xff\xff\xf6\x01\x00")
        for _ in range(64):
            if not opened.send(bytes(1 << 20)):
                break
        assert opened.hang_up().closed
    assert unharmed.status("VmHWM") / 1024 < 250


def test_silent_and_slow_connections_do_not_block_others(unharmed: Target) -> None:
    """Connections that say nothing, or a byte now and then: others are served meanwhile."""
    held = [RawConnection(unharmed.port) for _ in range(200)]  # more than the receiver has room for
    try:
        for at, opened in enumerate(held):
            opened.send(associate_rq()[: 7 * (at % 5)])
        begin = time.monotonic()
        assert unharmed.answers_echo()
        for opened in held:
            opened.send(b"\0")
        assert unharmed.answers_echo()
        assert time.monotonic() - begin < SETTLE_SECONDS
    finally:
        for opened in held:
            opened.close()


@pytest.mark.skipif(not TORTURE, reason="waits for the receiver's own patience to end")
def test_silent_and_slow_connections_are_given_up(unharmed: Target) -> None:
    held = [RawConnection(unharmed.port) for _ in range(10)]
    half = store_command(b"1.2.3")[:40]
    for at, opened in enumerate(held):
        if at % 2:
            opened.send(associate_rq())
            assert opened.next_kind() == ASSOCIATE_AC
            opened.send(p_data(half, COMMAND)[:-10])
        else:
            opened.send(associate_rq()[:30])
    deadline = time.monotonic() + 100
    for opened in held:
        while not opened.answers.closed and time.monotonic() < deadline:
            opened.send(b"\0")
            opened.next_kind()
        assert opened.answers.closed
        opened.close()


def test_port_checks_leave_nothing_behind(unharmed: Target) -> None:
    """A load balancer that opens and closes connections, or asks for an association and leaves."""
    for _ in range(2000 if TORTURE else 200):
        with raw_connection(unharmed.port):
            pass
    for _ in range(500 if TORTURE else 50):
        with raw_connection(unharmed.port) as opened:
            opened.send(associate_rq())


def test_a_refusal_is_a_rejection(unharmed: Target) -> None:
    """PS3.8, table 9-21: unknown application context, unknown protocol version."""
    other = item(0x10, b"1.2.3") + context(1) + user_information()
    assert ASSOCIATE_RJ in exchange(unharmed.port, associate_rq(other)).kinds
    assert ASSOCIATE_RJ in exchange(unharmed.port, associate_rq(version=2)).kinds


def test_an_image_is_still_taken(
    unharmed: Target, corpus: list[tuple[bytes, bytes, bytes]]
) -> None:
    """After all that the receiver does its work."""
    for syntax, sop_uid, data in corpus[1:]:
        answers = store(unharmed.port, data, sop_uid=sop_uid, syntax=syntax, calling=b"GOOD")
        assert answers.statuses == [0x0000]
    with associated(unharmed.port) as opened:
        _, sop_uid, data = corpus[1]
        for number in range(1, 4):
            opened.send(message(store_command(sop_uid, message=number), data))
        opened.send(RELEASE)
        assert opened.hang_up().statuses == [0x0000] * 3


def test_fragments_in_another_order_are_another_data_set(
    unharmed: Target, corpus: list[tuple[bytes, bytes, bytes]]
) -> None:
    """The header in the second fragment is not a header; found by the shuffled streams above."""
    _, sop_uid, data = corpus[0]
    request, commands, first, second, *others = conversation(data, sop_uid, b"SWAPPED")
    answers = exchange(unharmed.port, b"".join((request, commands, second, first, *others)))
    assert answers.statuses[0] == 0xC000
