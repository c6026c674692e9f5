"""What stands for a patient's identifier in audit messages."""

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
PSEUDONYM_LENGTH = 32

Pseudonym = Callable[[str], str]


def keyed_pseudonym(storage: Path) -> Pseudonym:
    """A keyed hash: the same patient has the same sign at this site, and nobody can guess it back.

    Identifiers of patients are short numbers: a hash without a key is undone by trying them all.
    The key is made at the first use and stays with the storage, so that all hosts share it.

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
        return digest[:PSEUDONYM_LENGTH]

    return pseudonym


def plain(identifier: str) -> str:
    """The identifier itself."""
    return identifier.strip()


def _site_key(path: Path) -> bytes:
    """The key, made when there is none; of several processes that begin at once, one makes it."""
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
