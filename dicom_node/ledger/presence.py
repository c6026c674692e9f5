"""Check that an open SQLite file is still the one at its path.

SQLite goes on writing into a file that was deleted or replaced, and reports success: what is
committed there is lost with the last connection.
"""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import Engine, event

from dicom_node.errors import StorageError

_Inode = tuple[int, int]
"""Device and inode number."""


class LedgerFile:
    """The database file, and the write-ahead log beside it, that this process has open.

    Args:
        path: The database file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._wal = path, path.with_name(f"{path.name}-wal")
        self._lock = threading.Lock()
        self._connections = 0
        self._file: _Inode | None = None
        self._log: _Inode | None = None

    def watch(self, engine: Engine) -> None:
        """Track the connections that an engine opens and closes."""
        event.listen(engine, "do_connect", lambda *_: self.check())
        event.listen(engine, "connect", lambda *_: self._opened())
        event.listen(engine, "close", lambda *_: self._closed())

    def check(self) -> None:
        """Compare the open file with the one at the path.

        Raises:
            StorageError: The ledger, or its write-ahead log, was deleted or replaced.
        """
        with self._lock:
            lost = self._file is not None and _inode(self._path) != self._file
            torn = self._log is not None and _inode(self._wal) != self._log
        if lost or torn:
            name = self._path if lost else self._wal
            raise StorageError(
                f"The ledger cannot be used: {name} was deleted or replaced while the node had it"
                " open; put the right file back and restart the node."
            )

    def _opened(self) -> None:
        with self._lock:
            self._connections += 1
            self._file = self._file or _inode(self._path)
            self._log = self._log or _inode(self._wal)

    def _closed(self) -> None:
        with self._lock:
            self._connections -= 1
            if self._connections == 0:  # the last one of all removes the log
                self._log = None


def _inode(path: Path) -> _Inode | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
