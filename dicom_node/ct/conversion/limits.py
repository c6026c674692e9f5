"""Limits on what one image may take of the process that reads it."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from dicom_node.encoding.element_selection import MAX_HEADER_BYTES, MAX_PIXEL_BYTES
from dicom_node.memory import header_bytes, memory_limited

MAX_PROCESSOR_SECONDS: Final = 60.0
"""A thousand times what a frame of 512 x 512 takes."""

MAX_SECONDS: Final = 600.0
"""For a decoder that waits for something that never comes."""

MAX_KEPT_BYTES: Final = 64 << 20
"""Memory of one process for slices that wait until their derived image is made."""

BASE_BYTES: Final = 64 << 20
"""Memory for libraries that a decoder loads, and for the allocator."""

BYTES_PER_PIXEL: Final = 64
"""Memory for decoding, in several copies of 32 bits."""

COPIES_OF_PIXEL_DATA: Final = 4

DEFAULT_STACK_BYTES: Final = 8 << 20

_WORD_BYTES: Final = 2


def parsing_bytes(rows: int, columns: int) -> int:
    """Return the further memory that reading a file may take before its pixels are decoded."""
    encoded = min(2 * rows * columns * _WORD_BYTES, MAX_PIXEL_BYTES) + MAX_HEADER_BYTES
    return header_bytes(1) + COPIES_OF_PIXEL_DATA * encoded


def decoding_bytes(rows: int, columns: int, encoded_bytes: int) -> int:
    """Return the further memory that decoding a frame may take."""
    pixels = rows * columns * BYTES_PER_PIXEL
    return BASE_BYTES + _stack_bytes() + pixels + COPIES_OF_PIXEL_DATA * encoded_bytes


@contextmanager
def decoding_limited(rows: int, columns: int, encoded_bytes: int) -> Iterator[None]:
    """Limit the memory and the time that the block may take for a frame.

    An allocation beyond it raises ``MemoryError``; too much time ends this process.
    """
    # The default action of both signals ends the process, wherever its code is.
    signal.setitimer(signal.ITIMER_PROF, MAX_PROCESSOR_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
    try:
        with memory_limited(decoding_bytes(rows, columns, encoded_bytes)):
            yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _stack_bytes() -> int:
    """Memory for the stacks of a decoder's threads: JPEG 2000 takes one for each processor."""
    stack, _ = resource.getrlimit(resource.RLIMIT_STACK)
    return (os.cpu_count() or 1) * (DEFAULT_STACK_BYTES if stack < 0 else stack)
