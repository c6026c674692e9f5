"""Outbox: derived images, one folder for each job, which appears atomically when complete."""

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
        """Make a private folder for a job's images.

        Raises:
            StorageError: The disk is full or not writable.
        """
        staging = self.root / f"{token}.{uuid.uuid4().hex[:8]}{PART_SUFFIX}"
        with disk_faults(self.root):
            make_folder(self.root)
            staging.mkdir()
        return staging

    def commit(self, token: str, staging: Path) -> tuple[Path, ...]:
        """Make a staged folder the job's result, atomically and durably.

        An existing result stays: it belongs to the same job.

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
        """Return a job's files in order of name; empty when it has no durable result."""
        folder = self.root / token
        return tuple(sorted(folder.iterdir())) if folder.is_dir() else ()

    def tokens(self) -> set[str]:
        """Return the tokens of jobs with a result."""
        return set(self.oldest_first())

    def oldest_first(self) -> list[str]:
        """Return the tokens of jobs with a result, oldest result first."""
        made = self.made_at()
        return sorted(made, key=lambda token: (made[token], token))

    def made_at(self) -> dict[str, float]:
        """Return the tokens of jobs with a result, and its time, seconds since 1970."""
        folders = self.root.iterdir() if self.root.is_dir() else ()
        return {
            folder.name: last_written(folder)
            for folder in folders
            if not folder.name.endswith(PART_SUFFIX)
        }

    def discard(self, staging: Path) -> None:
        """Delete a staged folder."""
        shutil.rmtree(staging, ignore_errors=True)

    def remove(self, token: str) -> None:
        """Delete a job's result, for retention."""
        with disk_faults(self.root):
            remove_tree(self.root / token)

    def sweep_leftovers(self, busy: Callable[[], Collection[str]]) -> int:
        """Delete staged folders of dead workers; return their number.

        Args:
            busy: Function that returns the tokens of claimed jobs; see `sweep_parts`.
        """
        return sweep_parts(self.root, busy)
