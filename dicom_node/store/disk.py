"""Disk usage."""

from __future__ import annotations

from typing import Final, Protocol

from dicom_node.settings import GIB

MIB: Final = 1 << 20
"""Bytes of one MiB."""


class Usage(Protocol):
    """Usage of a file system in bytes, as returned by ``shutil.disk_usage``."""

    @property
    def used(self) -> int:
        """Used bytes."""

    @property
    def free(self) -> int:
        """Bytes available to this user; the rest is reserved for root."""


def used_share(usage: Usage) -> float:
    """Return the used share of a file system, 0 to 1, as ``df`` computes it."""
    return usage.used / (usage.used + usage.free)


def size_in_words(size: float) -> str:
    """Format a size for people: GiB, or MiB below one GiB."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"
