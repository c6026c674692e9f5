"""Identity shared by ledger and storage folder, compared before every write.

The first start gives both the same identity: first a row to the ledger, then a file to the folder.
A pair in which one side has none (made by an earlier version, or restored without it) is joined
only if the ledger knows files of the folder. Everything else waits for a person.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice

from sqlalchemy import Connection, make_url

from dicom_node.errors import StorageError
from dicom_node.ledger import identity as row
from dicom_node.ledger.engine import RECONNECT_SECONDS, Ledger, open_when_ready
from dicom_node.logs import get_logger
from dicom_node.settings import Settings
from dicom_node.store import identity as file
from dicom_node.store.inbox import Inbox
from dicom_node.store.outbox import Outbox

log = get_logger(__name__)

MAX_FILES_COMPARED = 10_000
"""Limit of the files of a folder without identity that are looked up in the ledger."""

CHECK_SECONDS = 1.0
"""Maximum age of a comparison that is repeated before anything is confirmed."""

REMIND_SECONDS = 60.0
"""Interval of the log line of a part that waits for the right ledger."""


class Custody:
    """A ledger and the storage folder that belongs to it.

    Args:
        ledger: The ledger, open.
        settings: Path of the storage folder.

    Attributes:
        ledger: The ledger, guarded: a write fails while the two do not belong together.
    """

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._plain, self._settings = ledger, settings
        self.ledger = ledger.guarded(self._guard)
        self._verified_at = float("-inf")

    def verify(self) -> None:
        """Check that both belong together; new ones are joined.

        Raises:
            StorageError: They do not, or one of them cannot be read.
        """
        here, there = row.read_identity(self._plain), file.read_identity(self._settings.storage)
        if here is None or there is None:
            here, there = self._join(here, there)
        if here is None or here != there:
            raise self._mismatch()

    def fault(self) -> str:
        """Return the message of :meth:`verify`; empty when both belong together."""
        try:
            self.verify()
        except StorageError as error:
            return str(error)
        return ""

    def check(self) -> None:
        """Check as :meth:`verify`, but identities at most once in :data:`CHECK_SECONDS`.

        Raises:
            StorageError: As :meth:`verify`.
        """
        self._plain.check_file()
        if time.monotonic() - self._verified_at >= CHECK_SECONDS:
            self.verify()
            self._verified_at = time.monotonic()

    def wait(
        self, should_stop: Callable[[], bool], *, meanwhile: Callable[[], None] = lambda: None
    ) -> bool:
        """Wait until both belong together, as the right disk may be mounted later.

        Args:
            should_stop: Whether to stop; polled once a second.
            meanwhile: Function that is called once a second during the wait.

        Returns:
            Whether they belong together; False when stopped before.
        """
        logged_at = float("-inf")
        while fault := self.fault():
            if should_stop():
                return False
            if time.monotonic() - logged_at >= REMIND_SECONDS:
                log.error("waiting for the right ledger and storage", reason=fault)
                logged_at = time.monotonic()
            meanwhile()
            time.sleep(RECONNECT_SECONDS)
        return True

    def adopt(self) -> bool:
        """Join both unconditionally; return whether anything changed.

        An existing identity of the folder is kept, so that its other ledgers are refused.

        Raises:
            StorageError: One of them cannot be written.
        """
        storage = self._settings.storage
        here, there = row.read_identity(self._plain), file.read_identity(storage)
        if here is not None and here == there:
            return False
        agreed = there or here or file.new_identity()
        file.give_identity(storage, agreed)
        row.give_identity(self._plain, agreed, instead_of=here)
        return True

    def _guard(self, connection: Connection) -> None:
        there = file.read_identity(self._settings.storage)
        if there is None or row.identity_of(connection) != there:
            raise self._mismatch()

    def _join(self, here: str | None, there: str | None) -> tuple[str | None, str | None]:
        """Give an identity to the side without one, where that is safe."""
        storage, fits = self._settings.storage, False
        if here is None:
            fits = self._knows_files() if there else self._fits()
            here = row.give_identity(self._plain, there or file.new_identity()) if fits else None
        if here is not None and there is None and (fits or self._is_new() or self._knows_files()):
            file.give_identity(storage, here)
            there = file.read_identity(storage)
        return here, there

    def _fits(self) -> bool:
        """Whether a ledger and a folder without identities can be a pair."""
        if self._holds_files():
            return self._knows_files()
        return not row.counts_on_files(self._plain)

    def _is_new(self) -> bool:
        return row.is_unused(self._plain) and not self._holds_files()

    def _holds_files(self) -> bool:
        names, tokens = self._files(1)
        return bool(names or tokens)

    def _knows_files(self) -> bool:
        return row.knows_any(self._plain, *self._files(MAX_FILES_COMPARED))

    def _files(self, limit: int) -> tuple[list[str], list[str]]:
        """Return images of the inbox and results of the outbox, up to a limit of each."""
        inbox = Inbox(self._settings.inbox_folder, self._settings.quarantine_folder)
        names = list(islice(inbox.names(), limit))
        return names, Outbox(self._settings.outbox_folder).oldest_first()[:limit]

    def _mismatch(self) -> StorageError:
        url = make_url(self._settings.database)
        where = url.database if url.get_backend_name() == "sqlite" else f"database {url.database}"
        return StorageError(
            f"The ledger ({where}) does not belong to the storage folder {self._settings.storage}:"
            " nothing is received, sent or deleted; see whether the right disk is mounted, correct"
            " `database` or `storage` in node.yaml, or, if they are to belong together from now on,"
            " run `dicom-node adopt`."
        )


def open_custody(settings: Settings, should_stop: Callable[[], bool]) -> Custody:
    """Open the ledger for a part of the node, and log when it is not the storage's.

    Raises:
        ConfigurationError: The ledger was written by a newer version of this program.
        StorageError: The file cannot be opened, or the wait for a server was interrupted.
    """
    custody = Custody(open_when_ready(settings.database, should_stop), settings)
    if fault := custody.fault():
        log.error("wrong ledger or storage", reason=fault)
    return custody
