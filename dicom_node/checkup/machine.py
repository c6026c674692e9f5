"""Checks of the machine: disk, folders, database, backups, clock."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from sqlalchemy import make_url

from dicom_node.checkup.verdict import Checks, CheckWarning
from dicom_node.custody import Custody
from dicom_node.errors import ConfigurationError, StorageError
from dicom_node.ledger.clock_repair import newest_moment
from dicom_node.ledger.engine import open_ledger
from dicom_node.settings import Settings
from dicom_node.store.disk import size_in_words, used_share
from dicom_node.store.unknown import Unknown

SECONDS_PER_DAY = 86_400.0

MAX_CLOCK_DIFFERENCE_SECONDS = 300.0
"""Tolerated difference between the clocks of hosts that share a ledger."""

BACKUP_DAYS = 30.0
"""Time for which a backup made by an upgrade is needed."""

NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs"})
"""SQLite's locks and its shared memory do not work there (sqlite.org/wal.html)."""


def checks(settings: Settings) -> Checks:
    """Generate the checks of disk, folders, database, its storage folder, backups and clock."""
    yield "disk", lambda: _disk(settings)
    yield "folders", lambda: _folders(settings)
    yield "database", lambda: _database(settings)
    yield "ledger and storage", lambda: _custody(settings)
    yield "backups", lambda: _backups(settings)
    yield "clock", lambda: _clock(settings)


def _disk(settings: Settings) -> str:
    storage, retention = settings.storage, settings.retention
    try:
        storage.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=storage) as file:
            file.write(b"written by check")
        usage = shutil.disk_usage(storage)
    except OSError as error:
        raise StorageError(f"{storage} cannot be written: {error.strerror}.") from error
    free, used = size_in_words(usage.free), used_share(usage)
    if usage.free < retention.disk_reserve_bytes:
        raise StorageError(
            f"{free} are free under {storage}, less than the reserve of"
            f" {size_in_words(retention.disk_reserve_bytes)}, so that the receiver refuses"
            " images: free some space."
        )
    if used > retention.disk_high_watermark:
        raise CheckWarning(
            f"{storage} is {used:.0%} full, above the watermark of"
            f" {retention.disk_high_watermark:.0%}, so that finished series are deleted early: free"
            " some space, or shorten `retention.days`."
        )
    return f"{free} are free under {storage}."


def _folders(settings: Settings) -> str:
    """Files are put in place by renaming, which works only within one file system."""
    pairs = (
        (settings.inbox_folder, settings.quarantine_folder),
        (settings.outbox_folder, settings.storage),
        (settings.inbox_folder, settings.storage),
    )
    for one, other in pairs:
        if one.exists() and other.exists() and one.stat().st_dev != other.stat().st_dev:
            raise StorageError(
                f"{one} and {other} are on different file systems: put the whole storage folder on"
                " one."
            )
    for folder in (settings.inbox_folder, settings.outbox_folder, settings.reports_folder):
        if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
            raise StorageError(f"{folder} is not writable for this user: correct its owner.")
    return f"All are under {settings.storage}, on one file system."


def _database(settings: Settings) -> str:
    url = make_url(settings.database)
    if url.get_backend_name() == "sqlite" and url.database:
        kind = _file_system(Path(url.database).resolve().parent)
        if kind in NETWORK_FILE_SYSTEMS:
            raise ConfigurationError(
                f"The SQLite ledger lies on a network file system ({kind}), where its locks do not"
                " hold: use a local disk, or PostgreSQL."
            )
    ledger = open_ledger(settings.database)
    try:
        dialect = ledger.engine.dialect
        with ledger.read() as session:
            session.connection()
        version = ".".join(map(str, getattr(dialect, "server_version_info", None) or ()))
        return f"{dialect.name} {version}".strip() + ": the tables are up to date."
    finally:
        ledger.close()


def _custody(settings: Settings) -> str:
    ledger = open_ledger(settings.database)
    try:
        Custody(ledger, settings).verify()
    finally:
        ledger.close()
    unknown = Unknown(settings.unknown_folder)
    images, results = len(unknown.names()), len(unknown.tokens())
    if images or results:
        raise CheckWarning(
            f"{images} images and {results} results in {unknown.root} are in no ledger and will be"
            " deleted after `retention.days`: see `dicom-node unknown list`."
        )
    return "They belong together, and no file is unknown."


def _file_system(folder: Path) -> str:
    """Type of the file system of a folder; empty where the kernel does not state it."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    mounts = {fields[1]: fields[2] for line in lines if len(fields := line.split()) > 2}
    for place in (folder, *folder.parents):
        if str(place) in mounts:
            return mounts[str(place)]
    return ""


def _backups(settings: Settings) -> str:
    url = make_url(settings.database)
    if url.get_backend_name() != "sqlite" or not url.database:
        return "A PostgreSQL ledger is backed up with pg_dump."
    ledger = Path(url.database)
    found = sorted(ledger.parent.glob(f"{ledger.name}.*.backup"))
    old = [path for path in found if _age_days(path) > BACKUP_DAYS]
    if old:
        raise CheckWarning(
            f"{old[0]} was made by an upgrade {_age_days(old[0]):.0f} days ago: delete it when the"
            " upgrade has proved itself."
        )
    return f"Backups of upgrades beside the ledger: {len(found)}."


def _age_days(path: Path) -> float:
    return (time.time() - path.stat().st_mtime) / SECONDS_PER_DAY


def _clock(settings: Settings) -> str:
    ledger = open_ledger(settings.database)
    try:
        newest = newest_moment(ledger)
    finally:
        ledger.close()
    ahead = (newest or 0.0) - time.time()
    if ahead > MAX_CLOCK_DIFFERENCE_SECONDS:
        raise CheckWarning(
            f"The ledger's newest entry lies {ahead / 60:.0f} minutes ahead of this machine's"
            " clock, which is or was wrong: check that it is synchronised (NTP)."
        )
    return "The clock is not behind the ledger's newest entry."
