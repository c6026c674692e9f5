"""Modes of the files that a command writes: the node's are private, a user's as the user wants."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

OWNER_ONLY = 0o077
GROUP_READS = 0o027

_of_the_caller = [OWNER_ONLY]


def keep_files_private() -> None:
    """Let nobody but the user of this process read what it writes, images above all."""
    _of_the_caller[0] = os.umask(OWNER_ONLY)


def share_files(storage_access: Literal["owner", "group"]) -> None:
    """Let the group read what this process writes, if the configuration says so."""
    os.umask(GROUP_READS if storage_access == "group" else OWNER_ONLY)


@contextmanager
def modes_of_the_caller() -> Iterator[None]:
    """Write files with the umask of the shell: for results that a user asked for."""
    private = os.umask(_of_the_caller[0])
    try:
        yield
    finally:
        os.umask(private)
