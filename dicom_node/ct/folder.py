"""Folders of DICOM files, sorted into series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydicom import Dataset

from dicom_node.ct.attributes import texts
from dicom_node.ct.headers import load
from dicom_node.ct.shared_elements import SharedElements
from dicom_node.encoding.preamble import HEAD_BYTES, begins_with_element, has_prefix
from dicom_node.errors import InputError, UnreadableFile

DIRECTORY_FILE: Final = "DICOMDIR"
"""File name of the index of a DICOM medium: a DICOM file, but not an image."""

MAX_KEPT_HEADERS: Final = 4096
"""Headers that a scan keeps, so that the files of a series are read once: 7 KiB each in a series
whose headers have 50 elements, of which 10 differ."""


@dataclass(frozen=True)
class Unread:
    """A file that looks like DICOM and cannot be read.

    Attributes:
        path: The file.
        reason: One sentence.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class Folder:
    """Contents of a folder.

    Attributes:
        series: The files of each series, sorted by path; series in the order of their first file.
        unread: Files that look like DICOM, by content or by extension, and cannot be read.
        ignored: Other files, such as text and pictures.
        headers: Headers of the first ``MAX_KEPT_HEADERS`` files of series; of more, the memory
            would not do.
    """

    series: tuple[tuple[Path, ...], ...]
    unread: tuple[Unread, ...]
    ignored: tuple[Path, ...]
    headers: dict[Path, Dataset] = field(default_factory=dict)

    def take_header(self, path: Path) -> Dataset:
        """Take a header out, so that it is forgotten with its series; or load it.

        Raises:
            InputError: It cannot be read.
            StorageError: The disk, or the system, cannot read it now.
        """
        kept = self.headers.pop(path, None)
        return load(path, pixels=False) if kept is None else kept


def find_series(folder: Path) -> list[list[Path]]:
    """Find the files below a folder, grouped by Series Instance UID.

    Raises:
        InputError: The folder is missing, empty, or holds no DICOM file that can be read.
    """
    return [list(paths) for paths in scan_folder(folder).series]


def scan_folder(folder: Path) -> Folder:
    """Sort the files below a folder (or one file) into series.

    Raises:
        InputError: The folder is missing, empty, or holds no DICOM file that can be read.
    """
    by_series: dict[str, list[Path]] = defaultdict(list)
    unread: list[Unread] = []
    ignored: list[Path] = []
    headers: dict[Path, Dataset] = {}
    shared: dict[str, SharedElements] = defaultdict(SharedElements)
    for path in _files_in(folder):
        if not _looks_like_dicom(path):
            ignored.append(path)
            continue
        try:
            header = load(path, pixels=False)
            series_uid = _series_uid(path, header)
        except InputError as error:
            unread.append(Unread(path, str(error)))
            continue
        by_series[series_uid].append(path)
        if len(headers) < MAX_KEPT_HEADERS:
            headers[path] = shared[series_uid].header(header)
    if not by_series:
        raise _nothing_found(folder, unread, ignored)
    return Folder(tuple(map(tuple, by_series.values())), tuple(unread), tuple(ignored), headers)


def files_below(folder: Path) -> list[Path]:
    """List the files below a folder, sorted; without hidden ones and those in hidden folders."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def holds_dicom(folder: Path) -> bool:
    """Whether any file below a folder looks like DICOM."""
    return any(
        path.name != DIRECTORY_FILE and _looks_like_dicom(path) for path in files_below(folder)
    )


def dicom_files_in(folder: Path) -> list[Path]:
    """List the files in a folder, not below it, that look like DICOM, sorted; no hidden ones."""
    return [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and path.name != DIRECTORY_FILE
        if path.is_file() and _looks_like_dicom(path)
    ]


def _files_in(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
        return
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}: give a folder of DICOM files.")
    yield from (path for path in files_below(folder) if path.name != DIRECTORY_FILE)


def _looks_like_dicom(path: Path) -> bool:
    if path.suffix.lower() in (".dcm", ".dicom"):
        return True
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            return has_prefix(head) or begins_with_element(head)
    except OSError:
        return True


def _series_uid(path: Path, header: Dataset) -> str:
    uids = texts(header, "SeriesInstanceUID")
    if not uids:
        raise UnreadableFile(f"{path.name} names no series: the file is cut off or not an image.")
    return uids[0]


def _nothing_found(folder: Path, unread: list[Unread], ignored: list[Path]) -> InputError:
    if unread:
        others = f" Unreadable files in all: {len(unread)}." if len(unread) > 1 else ""
        return InputError(f"{folder} holds no readable DICOM file. {unread[0].reason}{others}")
    what = f"{len(ignored)} other files" if ignored else "nothing"
    return InputError(f"{folder} holds {what} and no DICOM file: give a folder with a CT series.")
