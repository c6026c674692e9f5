"""Pseudonyms of patient identifiers in audit messages."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dicom_node.errors import StorageError

KEY_NAME = "audit.key"
KEY_BYTES = 32
PSEUDONYM_CHARACTERS = 32

Pseudonym = Callable[[str], str]


def keyed_pseudonym(storage: Path) -> Pseudonym:
    """Make a keyed hash (HMAC-SHA-256): one pseudonym for each patient of this site.

    Patient identifiers are short numbers, so a hash without a key could be reversed by trying them
    all. The key is made at the first use and stays with the storage, so that all hosts share it.

    Raises:
        StorageError: The key cannot be read or written.
    """
    try:
        key = _site_key(storage / KEY_NAME)
    except OSError as error:
        raise StorageError(
            f"The key of the audit messages, {storage / KEY_NAME}, cannot be used:"
            f" {error.strerror}; make it readable for the node."
        ) from error

    def pseudonym(identifier: str) -> str:
        digest = hmac.new(
            key, identifier.strip().encode(errors="replace"), hashlib.sha256
        ).hexdigest()
        return digest[:PSEUDONYM_CHARACTERS]

    return pseudonym


def plain(identifier: str) -> str:
    """Return the identifier itself, without surrounding spaces."""
    return identifier.strip()


def _site_key(path: Path) -> bytes:
    """Read the key, or make it; of several processes that start at once, one makes it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(fresh, path)
        fresh.unlink()
    return path.read_bytes()
