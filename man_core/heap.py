"""Memory of the C library's heap: kept between the slices of a series, returned after it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of ``mallopt``, from glibc's ``malloc.h``."""

MAX_KEPT_BYTES = 256 << 20
"""Free memory that the heap of a thread keeps; a slice of 512 x 512 in MAN needs 180 MiB."""

MAX_HEAP_BLOCK_BYTES = 32 << 20
"""Blocks up to this size are taken from the heap, larger ones from the system; glibc allows no
higher value."""


@contextmanager
def kept_heap() -> Iterator[None]:
    """Keep the memory that is freed within the block for what is allocated next.

    By default glibc returns the maps of a network to the system layer by layer, which then clears
    the same pages for the next one: a tenth of the processor time of a slice. The setting holds for
    the process and stays; the memory itself is returned at the end of the block. With another C
    library nothing happens.
    """
    library = _glibc()
    if library is None:
        yield
        return
    try:
        yield
    finally:
        library.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    """Return glibc with the thresholds set; None if this process runs on another C library."""
    library = ctypes.CDLL(None)
    if not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        return None
    library.mallopt(_M_MMAP_THRESHOLD, MAX_HEAP_BLOCK_BYTES)
    library.mallopt(_M_TRIM_THRESHOLD, MAX_KEPT_BYTES)
    return library
