"""Messages that a decoder written in C prints, which are all that it says of damage.

GDCM's libjpeg reports damaged data as a warning, prints it and goes on; GDCM tells nobody.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

STANDARD_ERROR: Final = 2

MAX_MESSAGE_BYTES: Final = 1 << 16
"""Capacity of a pipe; a decoder that prints more loses the rest."""


@dataclass
class Messages:
    """Messages of a decoder.

    Attributes:
        text: Bytes on standard error, complete when the block has ended.
    """

    text: bytes = b""


@contextmanager
def messages_of(wanted: bool) -> Iterator[Messages]:
    """Collect what the block writes to standard error, if it is wanted.

    The descriptor is that of the whole process: for one of a single thread, as the processes of
    ``ct.conversion`` are.
    """
    found = Messages()
    if not wanted:
        yield found
        return
    sys.stderr.flush()
    before, (reading, writing) = os.dup(STANDARD_ERROR), os.pipe()
    try:
        os.set_blocking(writing, False)  # a full pipe loses messages rather than time
        os.set_blocking(reading, False)
        os.dup2(writing, STANDARD_ERROR)
        try:
            yield found
        finally:
            os.dup2(before, STANDARD_ERROR)
            found.text = _all_of(reading)
    finally:
        for one in (before, reading, writing):
            os.close(one)


def _all_of(pipe: int) -> bytes:
    try:
        return os.read(pipe, MAX_MESSAGE_BYTES)
    except BlockingIOError:
        return b""
