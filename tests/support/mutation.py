"""Mutations of data sets and PDU streams.

Every function takes the bytes and a seeded random number generator, so that a case can be told
again by its number.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from support import bombs
from support.raw_dicom import (
    COMMAND,
    LAST,
    RELEASE,
    associate_rq,
    command,
    context,
    echo_command,
    element,
    message,
    p_data,
    pdu,
    short,
    store_command,
    uid,
    user_information,
)

LONG_VRS = {
    b"OB",
    b"OD",
    b"OF",
    b"OL",
    b"OV",
    b"OW",
    b"SQ",
    b"SV",
    b"UC",
    b"UN",
    b"UR",
    b"UT",
    b"UV",
}
LENGTHS = (0, 1, 2, 3, 7, 65535, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
EVIL_UIDS = (
    b"", b"\0", b" ", b"1", b"1..2", b".1.2", b"1.2.", b"1.02.3", b"not.a.uid", b"1.2.3\\1.2.4",
    b"../../../../etc/passwd", b"/etc/passwd", b"1.2.3\0.4", b"9" * 65, b"1." * 40, b"\xff\xfe",
    b"1.2/3.4", b"2.25.-1", b"%s%n", b"1.2;DROP TABLE instance",
)  # fmt: skip
UNDEFINED = struct.pack("<I", 0xFFFFFFFF)
ITEM, ITEM_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0"
SEQUENCE_END = b"\xfe\xff\xdd\xe0" + bytes(4)
BOMB_BYTES = 256 << 20

Mutation = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Place:
    """Where an element of an explicit VR little endian data set is."""

    begin: int
    value: int
    end: int
    vr: bytes

    @property
    def tag(self) -> slice:
        return slice(self.begin, self.begin + 4)


def places(data: bytes) -> list[Place]:
    """The elements at the top of a data set in explicit VR little endian."""
    found, at = [], 0
    while at + 8 <= len(data):
        vr = data[at + 4 : at + 6]
        size, width = (4, 12) if vr in LONG_VRS else (2, 8)
        length = int.from_bytes(data[at + width - size : at + width], "little")
        if length == 0xFFFFFFFF:  # whatever comes is one value
            length = len(data) - at - width
        found.append(Place(at, at + width, at + width + length, vr))
        at += width + length
    return found


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def cut_in_the_last_value(data: bytes, rng: random.Random) -> bytes:
    return data[: -rng.randint(1, 64)]


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_header_bits(data: bytes, rng: random.Random) -> bytes:
    head = min(len(data), 1500)
    return flip_bits(data[:head], rng) + data[head:]


def lie_about_a_length(data: bytes, rng: random.Random) -> bytes:
    place, claimed = rng.choice(places(data)), rng.choice(LENGTHS)
    size = 4 if place.vr in LONG_VRS else 2
    lie = struct.pack("<I", claimed)[:size]
    return data[: place.value - size] + lie + data[place.value :]


def another_vr(data: bytes, rng: random.Random) -> bytes:
    place = rng.choice(places(data))
    vr = rng.choice((b"ZZ", b"SQ", b"OB", b"UN", b"US", b"FD", b"\0\0", b"\xff\xff", b"UI", b"LO"))
    return data[: place.begin + 4] + vr + data[place.begin + 6 :]


def another_order(data: bytes, rng: random.Random) -> bytes:
    pieces = [data[place.begin : place.end] for place in places(data)]
    rng.shuffle(pieces)
    return b"".join(pieces)


def an_element_twice(data: bytes, rng: random.Random) -> bytes:
    place = rng.choice(places(data))
    return data[: place.end] + data[place.begin : place.end] + data[place.end :]


def without_an_element(data: bytes, rng: random.Random) -> bytes:
    place = rng.choice(places(data))
    return data[: place.begin] + data[place.end :]


def evil_uid(data: bytes, rng: random.Random) -> bytes:
    place = rng.choice([place for place in places(data) if place.vr == b"UI"])
    return _with_value(data, place, rng.choice(EVIL_UIDS))


def garbage_value(data: bytes, rng: random.Random) -> bytes:
    place = rng.choice([place for place in places(data) if place.vr not in LONG_VRS])
    return _with_value(data, place, rng.randbytes(rng.choice((0, 1, 3, 16, 300))))


def garbage_between(data: bytes, rng: random.Random) -> bytes:
    place = rng.choice(places(data))
    return data[: place.begin] + rng.randbytes(rng.randint(1, 200)) + data[place.begin :]


def garbage_after(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(rng.randint(1, 200))


def nothing_but_garbage(data: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice((0, 1, 7, 8, 100, len(data))))


def nested(data: bytes, rng: random.Random) -> bytes:
    """Sequences in sequences, closed or not."""
    depth = rng.choice((2, 50, 500, 5000))
    inside = (b"\x08\x00\x40\x11SQ\0\0" + UNDEFINED + ITEM + UNDEFINED) * depth
    if rng.random() < 0.5:
        inside += (ITEM_END + bytes(4) + SEQUENCE_END) * depth
    return _before_pixels(data, inside)


def depth_bomb(data: bytes, rng: random.Random) -> bytes:
    """Sequences within sequences in lengths of either kind."""
    depth = rng.choice((31, 32, 33, 400, 20_000))
    return _before_pixels(data, bombs.nest(depth, defined=rng.random() < 0.5))


def item_bomb(data: bytes, rng: random.Random) -> bytes:
    return _before_pixels(data, bombs.items(rng.choice((1000, 20_001, 200_000))))


def element_bomb(data: bytes, rng: random.Random) -> bytes:
    return _before_pixels(data, bombs.elements(rng.choice((1000, 100_001))))


def stray_delimiters(data: bytes, rng: random.Random) -> bytes:
    stray = rng.choice((ITEM, ITEM_END, SEQUENCE_END[:4])) + struct.pack("<I", rng.choice(LENGTHS))
    return _before_pixels(data, stray)


def pixels_in_fragments(data: bytes, rng: random.Random) -> bytes:
    """Encapsulated pixels where none are expected, with fragments that lie."""
    last = places(data)[-1]
    fragments = b"".join(
        ITEM + struct.pack("<I", rng.choice((0, 1, 64, *LENGTHS))) + rng.randbytes(64)
        for _ in range(rng.randint(0, 5))
    )
    end = SEQUENCE_END if rng.random() < 0.5 else b""
    return data[: last.value - 4] + UNDEFINED + fragments + end


def another_encoding(data: bytes, rng: random.Random) -> bytes:
    """The header's first elements as implicit VR, or with every byte pair swapped."""
    if rng.random() < 0.5:
        return b"".join(
            data[place.tag]
            + struct.pack("<I", place.end - place.value)
            + data[place.value : place.end]
            for place in places(data)
        )
    even = data[: len(data) // 2 * 2]
    return b"".join(even[at : at + 2][::-1] for at in range(0, len(even), 2))


def _with_value(data: bytes, place: Place, value: bytes) -> bytes:
    if place.vr == b"UI":
        value += b"\0" * (len(value) % 2)
    size = 4 if place.vr in LONG_VRS else 2
    length = len(value).to_bytes(size, "little")
    return data[: place.value - size] + length + value + data[place.end :]


def _before_pixels(data: bytes, inserted: bytes) -> bytes:
    last = places(data)[-1]
    return data[: last.begin] + inserted + data[last.begin :]


DATA_SET_MUTATIONS: tuple[Mutation, ...] = (
    cut, cut_in_the_last_value, flip_bits, flip_header_bits, lie_about_a_length, another_vr,
    another_order, an_element_twice, without_an_element, evil_uid, garbage_value, garbage_between,
    garbage_after, nothing_but_garbage, nested, stray_delimiters, pixels_in_fragments,
    another_encoding, depth_bomb, item_bomb, element_bomb,
)  # fmt: skip


def mutated_data_set(data: bytes, rng: random.Random) -> bytes:
    """A data set that one kind of damage, or two, has met."""
    for _ in range(rng.choice((1, 1, 2))):
        mutation = rng.choice(DATA_SET_MUTATIONS)
        try:
            data = mutation(data, rng)
        except (IndexError, ValueError, struct.error):
            continue  # nothing is left that this kind of damage could meet
    return data


def deflated(data: bytes, rng: random.Random) -> bytes:
    """A deflated data set whose stream is cut, damaged, or followed by something."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    stream = compressor.compress(data) + compressor.flush()
    kind = rng.choice(("cut", "flip", "after", "inside", "swelling"))
    if kind == "swelling":
        return bombs.inflating(data, 1 << 20, rng.choice((8, 40)))
    if kind == "cut":
        return cut(stream, rng)
    if kind == "flip":
        return flip_bits(stream, rng)
    if kind == "after":
        return stream + rng.randbytes(20)
    return zlib.compress(mutated_data_set(data, rng))[2:-4]


def bomb(data: bytes, size: int = BOMB_BYTES) -> bytes:
    """A small deflated data set whose last value is so many zeros."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    last = places(data)[-1]
    parts = [compressor.compress(data[: last.value - 4] + struct.pack("<I", size))]
    zeros = bytes(1 << 20)
    parts += [compressor.compress(zeros) for _ in range(size >> 20)]
    return b"".join((*parts, compressor.flush()))


def conversation(data: bytes, sop_uid: bytes, calling: bytes) -> list[bytes]:
    """What a well-behaved sender says, PDU by PDU: request, one image, an echo, release."""
    both = (context(1), context(3, b"1.2.840.10008.1.1", (b"1.2.840.10008.1.2",)))
    return [
        associate_rq(calling=calling, contexts=both),
        *_pdus(message(store_command(sop_uid), data)),
        p_data(echo_command(2), COMMAND | LAST, number=3),
        RELEASE,
    ]


def _pdus(stream: bytes) -> Iterator[bytes]:
    while stream:
        end = 6 + int.from_bytes(stream[2:6], "big")
        yield stream[:end]
        stream = stream[end:]


def cut_stream(pdus: Sequence[bytes], rng: random.Random) -> bytes:
    return cut(b"".join(pdus), rng)


def flip_in_stream(pdus: Sequence[bytes], rng: random.Random) -> bytes:
    """Damage where it hurts: in the heads, not in the pixels."""
    at = rng.randrange(len(pdus))
    damaged = flip_bits(pdus[at][:200], rng) + pdus[at][200:]
    return b"".join((*pdus[:at], damaged, *pdus[at + 1 :]))


def shuffled_stream(pdus: Sequence[bytes], rng: random.Random) -> bytes:
    first, rest = list(pdus[:1]), list(pdus[1:])
    if rng.random() < 0.3:
        first, rest = [], list(pdus)
    rng.shuffle(rest)
    return b"".join(first + rest)


def repeated_stream(pdus: Sequence[bytes], rng: random.Random) -> bytes:
    at = rng.randrange(len(pdus))
    return b"".join((*pdus[:at], *[pdus[at]] * rng.randint(2, 5), *pdus[at + 1 :]))


def thinned_stream(pdus: Sequence[bytes], rng: random.Random) -> bytes:
    at = rng.randrange(len(pdus))
    return b"".join((*pdus[:at], *pdus[at + 1 :]))


def another_kind(pdus: Sequence[bytes], rng: random.Random) -> bytes:
    at = rng.randrange(len(pdus))
    changed = bytes((rng.randrange(256),)) + pdus[at][1:]
    return b"".join((*pdus[:at], changed, *pdus[at + 1 :]))


def another_length(pdus: Sequence[bytes], rng: random.Random) -> bytes:
    """A PDU that claims to be longer or shorter than it is, up to 4 GiB."""
    at = rng.randrange(len(pdus))
    claimed = struct.pack(">I", rng.choice((*LENGTHS, rng.randrange(1 << 20))))
    changed = pdus[at][:2] + claimed + pdus[at][6:]
    return b"".join((*pdus[:at], changed, *pdus[at + 1 :]))


def odd_fragments(pdus: Sequence[bytes], rng: random.Random) -> bytes:
    """Fragments of no length, of wrong length, of a context never negotiated, with odd headers."""
    made = [
        p_data(
            rng.randbytes(rng.choice((0, 1, 30))),
            rng.randrange(256),
            number=rng.choice((0, 1, 2, 3, 255)),
            length=rng.choice((None, None, 0, 1, 2, 5, 0xFFFFFFFF)),
        )
        for _ in range(rng.randint(1, 4))
    ]
    at = rng.randint(1, len(pdus) - 1)
    return b"".join((*pdus[:at], *made, *pdus[at:]))


def odd_command(pdus: Sequence[bytes], rng: random.Random) -> bytes:
    """A command set of any numbers, with a data set or without the one it promises."""
    fields = (
        1,
        0x10,
        0x20,
        0x21,
        0x30,
        0x100,
        0x110,
        0x120,
        0x130,
        0x140,
        0x150,
        0xFFF,
        0x8001,
        0x8030,
    )
    elements = [
        uid(0x0002, rng.choice((b"1.2.840.10008.5.1.4.1.1.2", *EVIL_UIDS))),
        uid(0x0003, rng.choice((b"1.2.840.10008.1.20.1", *EVIL_UIDS))),
        short(0x0100, rng.choice(fields)),
        short(0x0110, rng.randrange(65536)),
        short(0x0800, rng.choice((0, 1, 257))),
        uid(0x1000, rng.choice((b"1.2.3", *EVIL_UIDS))),
        short(0x1008, rng.randrange(4)),
        element(rng.randrange(65536), rng.randbytes(rng.choice((0, 2, 3, 40)))),
    ]
    kept = [one for one in elements if rng.random() < 0.8]
    rng.shuffle(kept)
    data_set = rng.choice((None, b"", rng.randbytes(100)))
    return b"".join(
        (pdus[0], message(command(*kept), data_set, number=rng.choice((1, 3))), RELEASE)
    )


def another_protocol(_pdus: Sequence[bytes], rng: random.Random) -> bytes:
    return rng.choice(
        (
            b"GET / HTTP/1.1\r\nHost: node\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(200),
            b"\r\n" * 20,
            rng.randbytes(rng.randint(1, 4000)),
            bytes(rng.randint(1, 4000)),
            pdu(1, b"", 0xFFFFFFFF) + bytes(100_000),
            pdu(1, rng.randbytes(68)),
            associate_rq(user_information(further=rng.randbytes(50))),
        )
    )


StreamMutation = Callable[[Sequence[bytes], random.Random], bytes]

STREAM_MUTATIONS: tuple[StreamMutation, ...] = (
    cut_stream, flip_in_stream, shuffled_stream, repeated_stream, thinned_stream, another_kind,
    another_length, odd_fragments, odd_command, another_protocol,
)  # fmt: skip


def mutated_stream(pdus: Sequence[bytes], rng: random.Random) -> bytes:
    return rng.choice(STREAM_MUTATIONS)(pdus, rng)
