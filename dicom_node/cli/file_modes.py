"""Modes of the files that a command writes: private for the node, by umask for the user."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

OWNER_ONLY = 0o077
GROUP_READS = 0o027

_of_the_caller = [OWNER_ONLY]


def keep_files_private() -> None:
    """Make the files of this process private to its user, images above all."""
    _of_the_caller[0] = os.umask(OWNER_ONLY)


def share_files(storage_access: Literal["owner", "group"]) -> None:
    """Let the group read the files of this process, if the configuration says so."""
    os.umask(GROUP_READS if storage_access == "group" else OWNER_ONLY)


@contextmanager
def modes_of_the_caller() -> Iterator[None]:
    """Write files with the umask of the caller's shell, for results that a user asked for."""
    private = os.umask(_of_the_caller[0])
    try:
        yield
    finally:
        os.umask(private)
