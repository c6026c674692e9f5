"""Malformed requests, handshakes and associations.

Every function takes a seeded random number generator, so that a case can be told again by its
number. What is sent comes in pieces: a peer sees the answer to each before it sends the next.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

from support.raw_dicom import (
    APPLICATION_CONTEXT,
    COMMAND,
    CT_IMAGE,
    EXPLICIT,
    IMPLICIT,
    LAST,
    P_DATA,
    RELEASE,
    VERIFICATION,
    associate_rq,
    context,
    echo_command,
    item,
    p_data,
    pdu,
    store_command,
    user_information,
)

Kind = Callable[[random.Random], Sequence[bytes]]

CONTEXTS = (context(1), context(3, VERIFICATION, (IMPLICIT,)))
TITLES = (
    b"",
    b"\0" * 16,
    b"A\0B",
    b"A\\B",
    b"\xff" * 16,
    b"\x1b[2J",
    b"PACS\0",
    "é".encode(),
    b"T",
)


def request(*items: bytes, calling: bytes = b"MALFORMED", further: bytes = b"") -> bytes:
    parts = (item(0x10, APPLICATION_CONTEXT), *items, user_information(further=further))
    return associate_rq(b"".join(parts), calling=calling)


def context_numbers(rng: random.Random) -> Sequence[bytes]:
    """Identifiers that are even, zero, twice, or more than there are."""
    numbers = [rng.choice((0, 1, 2, 3, 5, 254, 255, rng.randrange(256))) for _ in range(6)]
    many = [*range(1, 256, 2), *numbers]
    return [request(*map(context, rng.choice((numbers, numbers[:1], many)))), RELEASE]


def nested_lengths(rng: random.Random) -> Sequence[bytes]:
    """Items that say another length than they have, at any depth."""
    claims = [rng.choice((None, None, 0, 1, 3, 4, 65535, rng.randrange(400))) for _ in range(4)]
    inside = item(0x30, CT_IMAGE, claims[0]) + item(0x40, EXPLICIT, claims[1])
    role = struct.pack(">H", claims[3] or 25) + CT_IMAGE + b"\1\1"
    return [
        request(
            item(0x20, b"\1\0\0\0" + inside, claims[2]), further=item(0x54, role, rng.randrange(40))
        ),
        RELEASE,
    ]


def missing_parts(rng: random.Random) -> Sequence[bytes]:
    """Contexts without abstract or transfer syntax, or with several; requests without contexts."""
    syntaxes = [item(0x30, CT_IMAGE)] * rng.randrange(3) + [item(0x40, EXPLICIT)] * rng.randrange(3)
    rng.shuffle(syntaxes)
    return [request(*[item(0x20, b"\1\0\0\0" + b"".join(syntaxes))] * rng.randrange(2)), RELEASE]


def large_requests(rng: random.Random) -> Sequence[bytes]:
    """Up to a megabyte of items."""
    one = rng.choice((item(0x40, b""), item(0x99, b"x" * 50), context(1), item(0x20, b"")))
    return [request(context(1), one * rng.choice((100, 3000, 1_000_000 // len(one)))), RELEASE]


def empty_pdus(rng: random.Random) -> Sequence[bytes]:
    """P-DATA-TF PDUs in which nothing is, or fragments of which nothing comes."""
    nothing = rng.choice(
        (pdu(P_DATA, b""), p_data(b"", 0), p_data(b"", COMMAND), pdu(P_DATA, b"\0"))
    )
    return [request(*CONTEXTS), nothing * rng.choice((1, 3, 200))]


def half_an_association(rng: random.Random) -> Sequence[bytes]:
    """A request, command or data set that is begun and not ended."""
    whole = [request(*CONTEXTS), p_data(store_command(b"1.2.3"), COMMAND | LAST), p_data(b"\0", 0)]
    said = rng.randrange(len(whole))
    cut = rng.randrange(len(whole[said]))
    return [*whole[:said], whole[said][:cut]]


def only_echoes(rng: random.Random) -> Sequence[bytes]:
    """An association for images that brings none."""
    echo = p_data(echo_command(), COMMAND | LAST, number=3)
    return [request(*CONTEXTS, calling=rng.choice(TITLES)), *[echo] * rng.randrange(4), RELEASE]


def titles(rng: random.Random) -> Sequence[bytes]:
    """Titles that are none, calling and called."""
    calling, called = rng.choice(TITLES), rng.choice((b"DENOISE", b"DENOISE\0", *TITLES))
    return [associate_rq(calling=calling, called=called), RELEASE]


KINDS: tuple[Kind, ...] = (
    context_numbers, nested_lengths, missing_parts, large_requests, empty_pdus,
    half_an_association, only_echoes, titles,
)  # fmt: skip


def malformed_association(rng: random.Random) -> Sequence[bytes]:
    return rng.choice(KINDS)(rng)
