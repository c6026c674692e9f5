"""Identity of a storage folder: a file that must equal the identity in its ledger."""

from __future__ import annotations

import os
import re
import uuid
from contextlib import suppress
from pathlib import Path

from dicom_node.errors import StorageError
from dicom_node.store.durable import PART_SUFFIX, disk_faults, make_folder, sync_folder

IDENTITY_FILE = "storage.id"

MAX_IDENTITY_BYTES = 64

_IDENTITY = re.compile(r"[0-9a-f]{32}")


def new_identity() -> str:
    """Return a new, unique identity."""
    return uuid.uuid4().hex


def read_identity(storage: Path) -> str | None:
    """Read the identity of a storage folder; None when it has none.

    Raises:
        StorageError: The file cannot be read, or contains something else.
    """
    path = storage / IDENTITY_FILE
    try:
        with path.open("rb") as file:
            found = file.read(MAX_IDENTITY_BYTES).decode("ascii", "replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read ({error.strerror}); check the disk and the file's owner."
        ) from error
    if not _IDENTITY.fullmatch(found):
        raise StorageError(
            f"{path} does not contain an identity: restore it from a backup, or delete it and run"
            " `dicom-node adopt`."
        )
    return found


def give_identity(storage: Path, value: str, *, replace: bool = False) -> None:
    """Give a storage folder an identity, durably; an existing one stays unless `replace`.

    Raises:
        StorageError: The folder cannot be written.
    """
    path = storage / IDENTITY_FILE
    part = storage / f"{IDENTITY_FILE}.{uuid.uuid4().hex[:8]}{PART_SUFFIX}"
    with disk_faults(storage):
        make_folder(storage)
        try:
            with part.open("x", encoding="ascii") as file:
                file.write(f"{value}\n")
                file.flush()
                os.fsync(file.fileno())
            if replace:
                part.replace(path)
            else:
                with suppress(FileExistsError):
                    os.link(part, path)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(storage)
