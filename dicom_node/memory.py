"""Temporary limit on the memory of this process (Linux)."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BASE_BYTES = 192 << 20
BYTES_PER_HEADER = 96 << 10
"""Memory of pydicom for the header of an image of an ordinary series, with a margin."""

_STATUS = Path("/proc/self/status")


def header_bytes(images: int) -> int:
    """Return the memory that the headers of a series may take."""
    return BASE_BYTES + BYTES_PER_HEADER * images


@contextmanager
def memory_limited(further_bytes: int) -> Iterator[None]:
    """Limit how much more memory this process may allocate within the block.

    An allocation beyond it raises ``MemoryError``. Where the kernel does not report the memory in
    use, nothing is limited.

    Args:
        further_bytes: Private, writable memory (RLIMIT_DATA).
    """
    used = _used_bytes()
    if used is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [one for one in (soft, hard) if one != resource.RLIM_INFINITY]
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (min([used + further_bytes, *limits]), hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _used_bytes() -> int | None:
    try:
        rows = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(row.split()[1]) << 10 for row in rows if row.startswith("VmData:")), None)
