"""Disk usage."""

from __future__ import annotations

from typing import Protocol


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
