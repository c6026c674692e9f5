"""Folder ``unknown``: images and results that are in no ledger, kept for a person to decide.

Images have the names that they had in the inbox, results their job's token. Their age counts from
the time when they were set aside.
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path

from dicom_node.store.durable import (
    PART_SUFFIX,
    disk_faults,
    last_written,
    make_folder,
    remove_tree,
    sync_folder,
)
from dicom_node.store.leftovers import remove_old_files


class Unknown:
    """Images and results that were set aside.

    Args:
        root: The folder, on the file system of inbox and outbox.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._images, self._results = root / "inbox", root / "outbox"

    def path(self, name: str) -> Path:
        """Return the path of an image."""
        return self._images / name

    def names(self) -> list[str]:
        """Return the images, by the names that they had in the inbox."""
        return sorted(str(path.relative_to(self._images)) for path in self._images.glob("*/*.dcm"))

    def tokens(self) -> list[str]:
        """Return the tokens of the results, in the order in which they were set aside."""
        folders = self._results.iterdir() if self._results.is_dir() else ()
        found = [folder.name for folder in folders if folder.suffix != PART_SUFFIX]
        return sorted(found, key=lambda token: (self.result_set_at(token), token))

    def set_at(self, name: str) -> float:
        """Return when an image was set aside, seconds since 1970; infinity if missing."""
        return last_written(self.path(name))

    def result_count(self, token: str) -> int:
        """Return the number of images of a result."""
        return sum(1 for _ in (self._results / token).glob("*"))

    def result_set_at(self, token: str) -> float:
        """Return when a result was set aside, seconds since 1970; infinity if missing."""
        return last_written(self._results / token)

    def set_aside_image(self, source: Path, name: str) -> None:
        """Move an image out of the inbox; an existing file of this name stays.

        Raises:
            StorageError: The disk is not writable.
        """
        aside = self.path(name)
        if aside.exists():
            aside = aside.with_name(f"{aside.stem}.{uuid.uuid4().hex[:8]}{aside.suffix}")
        with disk_faults(aside.parent):
            make_folder(aside.parent)
            os.utime(source)
            source.rename(aside)
            sync_folder(aside.parent)
            sync_folder(source.parent)
        with suppress(OSError):  # it still has other images
            source.parent.rmdir()

    def set_aside_result(self, source: Path, token: str) -> None:
        """Move a job's result out of the outbox.

        Raises:
            StorageError: The disk is not writable.
        """
        with disk_faults(self._results):
            make_folder(self._results)
            for path in (*source.iterdir(), source):
                os.utime(path)
            source.rename(self._results / token)
            sync_folder(self._results)
            sync_folder(source.parent)

    def discard_image(self, name: str) -> None:
        """Delete an image."""
        path = self.path(name)
        with disk_faults(path.parent):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            path.parent.rmdir()

    def discard_result(self, token: str) -> None:
        """Delete a job's result."""
        with disk_faults(self._results):
            remove_tree(self._results / token)

    def remove_old(self, before: float) -> tuple[int, int]:
        """Delete what was set aside before a time, seconds since 1970; count images and results."""
        images = remove_old_files(self._images, before=before)
        old = [token for token in self.tokens() if self.result_set_at(token) < before]
        for token in old:
            self.discard_result(token)
        return images, len(old)
