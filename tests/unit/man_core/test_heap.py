"""Kept heap: freed memory serves the next allocation, and is returned at the end."""

from __future__ import annotations

import ctypes
import platform
import resource
from pathlib import Path

import pytest
import torch

from man_core.heap import kept_heap

BLOCK_BYTES = 24 << 20
FILLS = 12
"""The first blocks of this size may each take a place of their own, as alignment falls out."""

PAGES = BLOCK_BYTES // resource.getpagesize()

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")


def fill() -> None:
    torch.full((BLOCK_BYTES,), 1, dtype=torch.uint8)


def faults_of_a_fill() -> int:
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    fill()
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before


def resident_pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])


def test_freed_memory_serves_the_next_allocation() -> None:
    with kept_heap():
        fill()
        assert min(faults_of_a_fill() for _ in range(FILLS)) < PAGES / 10


def test_freed_memory_is_returned_at_the_end() -> None:
    ctypes.CDLL(None).malloc_trim(0)  # what earlier tests have freed
    before = resident_pages()
    with kept_heap():
        fill()
    assert resident_pages() < before + PAGES / 2


def test_an_error_within_the_block_is_raised() -> None:
    with pytest.raises(ValueError, match="own"), kept_heap():
        raise ValueError("own")
