"""Faults of a node's ledger and storage folder while it runs, and their repair."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from dicom_node.ledger.engine import open_ledger
from dicom_node.store.identity import IDENTITY_FILE

LEDGER_ENDINGS = ("", "-wal", "-shm")

StorageFault = Callable[[Path], AbstractContextManager[None]]
"""Takes the storage folder, with the ledger in it; all is right again at the end of the block."""


@contextlib.contextmanager
def ledger_deleted(storage: Path) -> Iterator[None]:
    """The three files of the ledger disappear, and are restored unchanged."""
    aside = storage.parent / "aside"
    aside.mkdir(exist_ok=True)
    _move(storage, aside)
    yield
    _move(aside, storage)


@contextlib.contextmanager
def ledger_replaced(storage: Path) -> Iterator[None]:
    """Another node's ledger lies in the place of ours."""
    other = storage.parent / "another"
    open_ledger(f"sqlite:///{other}/ledger.db").close()
    with ledger_deleted(storage):
        (other / "ledger.db").rename(storage / "ledger.db")
        yield


@contextlib.contextmanager
def storage_of_another(storage: Path) -> Iterator[None]:
    """The disk of another node is mounted in the place of ours."""
    identity = storage / IDENTITY_FILE
    right = identity.read_text()
    identity.write_text("0" * 32)
    yield
    identity.write_text(right)


@contextlib.contextmanager
def storage_read_only(storage: Path) -> Iterator[None]:
    """The file system was remounted read-only; or the folder has another owner, if not root."""
    if os.geteuid() != 0:
        storage.chmod(0o500), (storage / "inbox").chmod(0o500)
        yield
        storage.chmod(0o700), (storage / "inbox").chmod(0o700)
        return
    view = storage.parent / "read_only"  # made where nobody writes, for a mount in use is busy
    view.mkdir(exist_ok=True)
    _run("mount", "--bind", str(storage), str(view))
    try:
        _run("mount", "-o", "remount,ro,bind", str(view))
        _run("mount", "--bind", str(view), str(storage))
        try:
            yield
        finally:
            _run("umount", "-l", str(storage))
    finally:
        _run("umount", "-l", str(view))


STORAGE_FAULTS: dict[str, StorageFault] = {
    "ledger deleted": ledger_deleted,
    "ledger replaced": ledger_replaced,
    "storage of another": storage_of_another,
    "storage read-only": storage_read_only,
}


def can_be_made(name: str) -> bool:
    """Whether a mishap can be made here; only root of its own machine may mount."""
    if name != "storage read-only" or os.geteuid() != 0:
        return True
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "--bind", "/mnt", "/mnt"], capture_output=True, check=False
    )
    return tried.returncode == 0


def health(port: int) -> tuple[int, list[str]]:
    """Status and reasons of ``/healthz``; status 0 while nobody answers."""
    url = f"http://127.0.0.1:{port}/healthz"
    try:
        answer: Any = urllib.request.urlopen(url, timeout=30)
    except urllib.error.HTTPError as error:
        answer = error
    except OSError:
        return 0, []
    with answer:
        return int(answer.status), list(json.load(answer)["reasons"])


def _move(source: Path, target: Path) -> None:
    for ending in LEDGER_ENDINGS:
        path = source / f"ledger.db{ending}"
        if path.exists():
            path.rename(target / path.name)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)
