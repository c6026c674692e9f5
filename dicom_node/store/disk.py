"""How full a disk is."""

from __future__ import annotations

from typing import Protocol


class Usage(Protocol):
    """Bytes of a file system, as ``shutil.disk_usage`` gives them."""

    @property
    def used(self) -> int:
        """What is written."""

    @property
    def free(self) -> int:
        """What may still be written; the rest is kept for root."""


def used_share(usage: Usage) -> float:
    """How full a file system is, 0 to 1, as ``df`` tells it."""
    return usage.used / (usage.used + usage.free)
