"""Limits on what one compressed frame may take."""

from __future__ import annotations

import os
import resource
from typing import Final

from dicom_node.ct.decoding.frame import Frame

MAX_PROCESSOR_SECONDS: Final = 60.0
"""A thousand times what a frame of 512 x 512 takes."""

MAX_SECONDS: Final = 600.0
"""For a decoder that waits for something that never comes."""

BASE_BYTES: Final = 64 << 20
"""Memory for libraries that a decoder loads, and for the allocator."""

BYTES_PER_PIXEL: Final = 64
"""Memory for decoding, in several copies of 32 bits."""

COPIES_OF_PIXEL_DATA: Final = 4

DEFAULT_STACK_BYTES: Final = 8 << 20


def decoding_bytes(frame: Frame) -> int:
    """Return the further memory that decoding a frame may take."""
    rows, columns = frame.shape
    pixels = rows * columns * BYTES_PER_PIXEL
    return BASE_BYTES + _stack_bytes() + pixels + COPIES_OF_PIXEL_DATA * len(frame.pixel_data)


def _stack_bytes() -> int:
    """Memory for the stacks of a decoder's threads: JPEG 2000 takes one for each processor."""
    stack, _ = resource.getrlimit(resource.RLIMIT_STACK)
    return (os.cpu_count() or 1) * (DEFAULT_STACK_BYTES if stack < 0 else stack)
