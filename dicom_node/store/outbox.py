"""The outbox: derived images, one folder a job, which appears in one step when it is complete."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Collection
from pathlib import Path

from dicom_node.store.durable import (
    PART_SUFFIX,
    disk_faults,
    last_written,
    make_folder,
    remove_tree,
    sync_file,
    sync_folder,
)
from dicom_node.store.leftovers import sweep_parts


class Outbox:
    """Derived images on disk; a job's folder is named by its token.

    Args:
        root: Folder of the outbox.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def stage(self, token: str) -> Path:
        """A fresh folder to write a job's images into; nobody else looks at it.

        Raises:
            StorageError: The disk is full or not writable.
        """
        staging = self.root / f"{token}.{uuid.uuid4().hex[:8]}{PART_SUFFIX}"
        with disk_faults(self.root):
            make_folder(self.root)
            staging.mkdir()
        return staging

    def commit(self, token: str, staging: Path) -> tuple[Path, ...]:
        """Make a staged folder the job's result, in one step that survives a power cut.

        A result that is there already stays: it belongs to the same job.

        Returns:
            The job's files.

        Raises:
            StorageError: The disk is full or not writable.
        """
        final = self.root / token
        with disk_faults(self.root):
            for path in staging.iterdir():
                sync_file(path)
            sync_folder(staging)
            if final.exists():
                self.discard(staging)
            else:
                staging.rename(final)
            sync_folder(self.root)
        return self.committed(token)

    def committed(self, token: str) -> tuple[Path, ...]:
        """A job's files in order of name; empty when it has no durable result."""
        folder = self.root / token
        return tuple(sorted(folder.iterdir())) if folder.is_dir() else ()

    def tokens(self) -> set[str]:
        """The jobs that have a result here."""
        return set(self.oldest_first())

    def oldest_first(self) -> list[str]:
        """The jobs that have a result here, the one that was made first in front."""
        made = self.made_at()
        return sorted(made, key=lambda token: (made[token], token))

    def made_at(self) -> dict[str, float]:
        """The jobs that have a result here, and when it was made, seconds since 1970."""
        folders = self.root.iterdir() if self.root.is_dir() else ()
        return {
            folder.name: last_written(folder)
            for folder in folders
            if not folder.name.endswith(PART_SUFFIX)
        }

    def discard(self, staging: Path) -> None:
        """Throw a staged folder away."""
        shutil.rmtree(staging, ignore_errors=True)

    def remove(self, token: str) -> None:
        """Delete a job's result, for retention."""
        with disk_faults(self.root):
            remove_tree(self.root / token)

    def sweep_leftovers(self, busy: Callable[[], Collection[str]]) -> int:
        """Delete what workers that died had staged; returns how many folders went.

        Args:
            busy: Tells the tokens of jobs that somebody works on. Asked after looking at the
                disk: whoever stages has claimed before, so that no folder in use is taken.
        """
        return sweep_parts(self.root, busy)
