"""Inbox: received images as they arrived, one folder for each series.

File names consist of hashes of the Series and SOP Instance UIDs and of the content. Different bytes
under a known UID therefore never overwrite anything, and no name reveals an identity.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dicom_node.store.draft import Draft
from dicom_node.store.durable import (
    PART_SUFFIX,
    disk_faults,
    hashed,
    is_locked,
    last_written,
    make_folder,
    remove_leftover,
    sync_folder,
)


def folder_of(series_uid: str) -> str:
    """Return the name of a series' folder."""
    return hashed(series_uid)


def inbox_name(series_uid: str, sop_uid: str, sha256: str) -> str:
    """Return the name of an image relative to the inbox.

    Args:
        series_uid: Series Instance UID.
        sop_uid: SOP Instance UID.
        sha256: Hash of the data set.
    """
    return f"{folder_of(series_uid)}/{hashed(sop_uid)}-{sha256[:16]}.dcm"


@dataclass(frozen=True)
class StoredFile:
    """An image that is durable on disk once its folder is flushed.

    Attributes:
        name: File name relative to the inbox, as the ledger keeps it.
        path: Path of the file.
        sha256: Hash of the data set, without file meta information.
        size: Size of the file in bytes.
    """

    name: str
    path: Path
    sha256: str
    size: int


class Inbox:
    """Received images on disk.

    Args:
        root: Folder of the inbox.
        quarantine: Folder, on the same file system, of images that contradict another.
    """

    def __init__(self, root: Path, quarantine: Path) -> None:
        self.root = root
        self._quarantine = quarantine

    def begin(self, meta: bytes) -> Draft:
        """Begin to store an image whose data set arrives in fragments.

        Args:
            meta: Preamble, ``DICM`` and the file meta information.

        Raises:
            StorageError: The disk is full or not writable.
        """
        with disk_faults(self.root):
            make_folder(self.root)
            return Draft(self.root, meta)

    def keep(self, draft: Draft, *, series_uid: str, sop_uid: str) -> StoredFile:
        """Give a complete image its name; it is durable once its folder is flushed afterwards.

        An existing file of the same data set stays, unless it is torn.

        Raises:
            StorageError: The disk is full or not writable.
        """
        sha256 = draft.sha256()
        name = inbox_name(series_uid, sop_uid, sha256)
        path = self.path(name)
        with disk_faults(path.parent):
            make_folder(path.parent)
            draft.become(path)
        return StoredFile(name=name, path=path, sha256=sha256, size=draft.size)

    def put(self, meta: bytes, dataset: bytes, *, series_uid: str, sop_uid: str) -> StoredFile:
        """Store a complete image durably; the ledger comes next, then the response to the sender.

        Raises:
            StorageError: The disk is full or not writable.
        """
        with self.begin(meta) as draft:
            draft.write(dataset)
            stored = self.keep(draft, series_uid=series_uid, sop_uid=sop_uid)
        with disk_faults(stored.path.parent):
            sync_folder(stored.path.parent)
        return stored

    def path(self, name: str) -> Path:
        """Return the path of an image."""
        return self.root / name

    def quarantine(self, stored: StoredFile) -> Path:
        """Move an image that differs from one of the same SOP Instance UID to quarantine.

        Raises:
            StorageError: The disk is full or not writable.
        """
        aside = self._quarantine / stored.name
        with disk_faults(aside.parent):
            make_folder(aside.parent)
            stored.path.replace(aside)
            sync_folder(aside.parent)
        return aside

    def discard(self, stored: StoredFile) -> None:
        """Delete an image that was not entered in the ledger and is refused to its sender.

        Raises:
            StorageError: The disk is not writable.
        """
        with disk_faults(stored.path.parent):
            stored.path.unlink(missing_ok=True)

    def put_back(self, source: Path, name: str) -> None:
        """Link an image that was set aside to its name in the inbox, as :meth:`keep` does.

        The source stays: the caller removes it once the ledger has entered the image.

        Raises:
            StorageError: The disk is not writable.
        """
        path = self.path(name)
        with disk_faults(path.parent):
            make_folder(path.parent)
            with suppress(FileExistsError):
                os.link(source, path)
            sync_folder(path.parent)

    def remove_images(self, names: Sequence[str]) -> None:
        """Delete images, for retention, under the ledger's write lock."""
        with disk_faults(self.root):
            for name in names:
                self.path(name).unlink(missing_ok=True)
            for folder in {self.path(name).parent for name in names}:
                with suppress(OSError):  # missing, or with files that are in no ledger
                    folder.rmdir()

    def names(self) -> Iterator[str]:
        """Yield the names of all images, as in the ledger."""
        return (str(path.relative_to(self.root)) for path in self.root.glob("*/*.dcm"))

    def series_untouched_since(self, moment: float) -> Iterator[list[str]]:
        """Yield, by series, the names of images not written since a time, seconds since 1970."""
        for folder in self.root.glob("*/"):
            old = [path.name for path in folder.glob("*.dcm") if last_written(path) < moment]
            if old:
                yield [f"{folder.name}/{name}" for name in sorted(old)]

    def sweep_leftovers(self) -> int:
        """Delete incomplete files of dead receivers; those of living ones are locked."""
        leftovers = [*self.root.glob(f"*{PART_SUFFIX}"), *self.root.glob(f"*/*{PART_SUFFIX}")]
        dead = [leftover for leftover in leftovers if not is_locked(leftover)]
        for leftover in dead:
            remove_leftover(leftover)
        return len(dead)
