"""The inbox: received images as they came, one folder a series.

File names are made of hashes: of the series and SOP Instance UID, and of the content. Other bytes
under a known UID therefore never overwrite anything, and no name tells who the patient is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    remove_tree,
    sync_folder,
)


def folder_of(series_uid: str) -> str:
    """Name of a series' folder."""
    return hashed(series_uid)


@dataclass(frozen=True)
class StoredFile:
    """An image that is durable on disk, once its folder is synchronised.

    Attributes:
        name: File name relative to the inbox, as the ledger keeps it.
        path: The file.
        sha256: Of the data set, without file meta information.
        size: Bytes of the file.
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
        """Begin to take an image in, whose data set comes piece by piece.

        Args:
            meta: Preamble, ``DICM`` and the file meta information group.

        Raises:
            StorageError: The disk is full or not writable.
        """
        with disk_faults(self.root):
            make_folder(self.root)
            return Draft(self.root, meta)

    def keep(self, draft: Draft, *, series_uid: str, sop_uid: str) -> StoredFile:
        """Give a whole image its name. It is durable when its folder is synchronised after this.

        The same data set again leaves the file which is there as it is, unless it was cut short.

        Raises:
            StorageError: The disk is full or not writable.
        """
        sha256 = draft.sha256()
        name = f"{folder_of(series_uid)}/{hashed(sop_uid)}-{sha256[:16]}.dcm"
        path = self.path(name)
        with disk_faults(path.parent):
            make_folder(path.parent)
            draft.become(path)
        return StoredFile(name=name, path=path, sha256=sha256, size=draft.size)

    def put(self, meta: bytes, dataset: bytes, *, series_uid: str, sop_uid: str) -> StoredFile:
        """Make a whole image durable; the ledger comes next, then the answer to the sender.

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
        """Where the image of that name is."""
        return self.root / name

    def quarantine(self, stored: StoredFile) -> Path:
        """Set an image aside that contradicts one of the same SOP Instance UID.

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
        """Delete an image that was not entered in the ledger, and that its sender is refused.

        Raises:
            StorageError: The disk is not writable.
        """
        with disk_faults(stored.path.parent):
            self._remove_image(stored.name)

    def remove_series(self, series_uid: str) -> None:
        """Delete the images of a series; for retention, under the ledger's write lock."""
        with disk_faults(self.root):
            remove_tree(self.root / folder_of(series_uid))

    def folders_untouched_since(self, moment: float) -> list[str]:
        """Names of the series' folders to which nothing was added since (seconds since 1970)."""
        folders = self.root.iterdir() if self.root.is_dir() else ()
        return sorted(
            folder.name
            for folder in folders
            if not folder.name.endswith(PART_SUFFIX) and last_written(folder) < moment
        )

    def remove_folder(self, name: str) -> None:
        """Delete a series' folder by its name."""
        with disk_faults(self.root):
            remove_tree(self.root / name)

    def sweep_unknown(
        self,
        remove_unknown: Callable[[Sequence[str], Callable[[str], None]], list[str]],
        *,
        before: float,
    ) -> int:
        """Delete images that no ledger knows: a crash came between the file and its entry.

        Nobody was told that they are kept, so their sender sends them again.

        Args:
            remove_unknown: Takes names and a function that deletes a file, calls it for those that
                no ledger counts on, and returns them.
            before: Files that were touched after this, seconds since 1970, may still be entered.

        Returns:
            How many were deleted.
        """
        removed = 0
        for folder in self.root.glob("*/"):
            old = [path for path in folder.glob("*.dcm") if last_written(path) < before]
            names = [f"{folder.name}/{path.name}" for path in old]
            removed += len(remove_unknown(names, self._remove_image))
        return removed

    def _remove_image(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    def sweep_leftovers(self) -> int:
        """Delete what dead receivers left half-written; what a living one writes is locked."""
        leftovers = [*self.root.glob(f"*{PART_SUFFIX}"), *self.root.glob(f"*/*{PART_SUFFIX}")]
        dead = [leftover for leftover in leftovers if not is_locked(leftover)]
        for leftover in dead:
            remove_leftover(leftover)
        return len(dead)
