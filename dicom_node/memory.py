"""A bound on the memory that reading may take, for a while and of this process (Linux)."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BASE_BYTES = 192 << 20
BYTES_PER_HEADER = 96 << 10
"""What pydicom takes for the header of an image of an ordinary series, with room to spare."""

_STATUS = Path("/proc/self/status")


def header_bytes(images: int) -> int:
    """Memory for the headers of a series."""
    return BASE_BYTES + BYTES_PER_HEADER * images


@contextmanager
def memory_limited(further_bytes: int) -> Iterator[None]:
    """Let this process take so much more memory than it has now, and no more, within the block.

    What asks for more gets a ``MemoryError``. Where the kernel does not say how much is in use,
    nothing is limited.

    Args:
        further_bytes: Of private, writable memory (RLIMIT_DATA).
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
