"""Ledger and storage folder carry one identity; a wrong ledger deletes nothing."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from support.ledger_factory import NodeFixture, settings_in

from dicom_node.custody import Custody, custody_faults, set_aside_unknown
from dicom_node.errors import StorageError
from dicom_node.housekeeping import run_housekeeping, sweeps
from dicom_node.ledger.engine import Ledger, open_ledger
from dicom_node.ledger.identity import read_identity
from dicom_node.ledger.jobs import claim_job
from dicom_node.ledger.operations import list_jobs
from dicom_node.ledger.states import JobState
from dicom_node.ledger.strays import take_unentered
from dicom_node.store.identity import IDENTITY_FILE

MISMATCH = "does not belong to the storage folder"


@pytest.fixture
def node(engine: str, database: str, tmp_path: Path) -> Iterator[NodeFixture]:
    """Its ledger lies beside the storage, so that the storage can be moved away."""
    beside = f"sqlite:///{tmp_path}/ledger.db" if engine == "sqlite" else database
    built = NodeFixture(tmp_path, database=beside)
    yield built
    built.ledger.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger beside the right one: a typo, or a disk that is not mounted."""
    with closing(open_ledger(f"sqlite:///{tmp_path}/typo.db")) as ledger:
        yield ledger


def custody(node: NodeFixture, ledger: Ledger | None = None) -> Custody:
    return Custody(ledger or node.ledger, node.settings)


def identity_file(node: NodeFixture) -> Path:
    return node.settings.storage / IDENTITY_FILE


def forget(ledger: Ledger) -> None:
    """As a ledger of an earlier version is after its migration."""
    with ledger.write() as session:
        session.execute(sa.text("DELETE FROM identity"))


def files(node: NodeFixture) -> list[Path]:
    return sorted(path for path in node.settings.storage.rglob("*.dcm"))


def test_the_first_start_gives_both_one_identity_and_the_next_finds_it(node: NodeFixture) -> None:
    custody(node).verify()
    identity = identity_file(node).read_text().strip()
    assert read_identity(node.ledger) == identity
    node.arrive()
    custody(node).verify()
    assert identity_file(node).read_text().strip() == identity


def test_a_crash_between_row_and_file_is_made_good(node: NodeFixture) -> None:
    custody(node).verify()
    identity = identity_file(node).read_text()
    identity_file(node).unlink()
    custody(node).verify()
    assert identity_file(node).read_text() == identity


def test_an_installation_of_an_earlier_version_is_joined_when_the_ledger_knows_its_files(
    node: NodeFixture,
) -> None:
    node.arrive()
    node.store(b"newer than the backup of the ledger", sop_uid="1.2.2")
    custody(node).verify()
    forget(node.ledger)  # and the backup of an earlier version, put back
    custody(node).verify()
    assert read_identity(node.ledger) == identity_file(node).read_text().strip()


@pytest.mark.parametrize("has_identity", [True, False])
def test_an_empty_ledger_gets_no_storage_that_holds_images(
    node: NodeFixture, other: Ledger, has_identity: bool
) -> None:
    if has_identity:
        custody(node).verify()
    node.arrive()
    os.utime(files(node)[0], (1000.0, 1000.0))
    wrong = custody(node, other)
    with pytest.raises(StorageError, match=MISMATCH):
        wrong.verify()
    with pytest.raises(StorageError, match=MISMATCH):
        set_aside_unknown(wrong, node.settings, before=2000.0)
    with pytest.raises(StorageError, match=MISMATCH), wrong.ledger.write():
        pytest.fail("something was written")
    assert len(files(node)) == 1
    assert (read_identity(other), identity_file(node).exists()) == (None, has_identity)


def test_a_ledger_gets_no_foreign_storage(node: NodeFixture, tmp_path: Path) -> None:
    node.arrive()
    custody(node).verify()
    (tmp_path / "b").mkdir()
    stranger = NodeFixture(tmp_path / "b")
    stranger.arrive(b"another's", series_uid="1.9", sop_uid="1.9.1")
    with closing(stranger.ledger):
        for forgetful in (False, True):
            if forgetful:
                forget(node.ledger)
            with pytest.raises(StorageError, match=MISMATCH):
                Custody(node.ledger, stranger.settings).verify()


def test_a_ledger_that_counts_on_files_gets_no_empty_folder(node: NodeFixture) -> None:
    """The disk of the storage is not mounted, and comes back."""
    node.arrive()
    right = custody(node)
    right.verify()
    storage = node.settings.storage
    away = storage.rename(node.folder / "unmounted")
    storage.mkdir()
    assert MISMATCH in right.fault()
    assert list(storage.iterdir()) == []
    storage.rmdir()
    away.rename(storage)
    assert right.fault() == ""


def test_two_ledgers_never_share_a_folder_even_while_it_is_empty(
    node: NodeFixture, other: Ledger
) -> None:
    custody(node).verify()
    assert MISMATCH in custody(node, other).fault()


def test_a_person_joins_what_belongs_together_from_now_on(node: NodeFixture, other: Ledger) -> None:
    custody(node).verify()
    node.arrive()
    now = custody(node, other)
    assert (now.adopt(), now.adopt()) == (True, False)
    assert now.fault() == ""
    with now.ledger.write():
        pass


def test_a_part_waits_for_the_right_disk(
    node: NodeFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.arrive()
    right = custody(node)
    right.verify()
    away = node.settings.storage.rename(node.folder / "unmounted")
    monkeypatch.setattr(
        "dicom_node.custody.identity.time.sleep", lambda _: away.rename(node.settings.storage)
    )
    assert right.wait(lambda: False)
    identity_file(node).write_text("nothing\n")
    assert not right.wait(lambda: True)


def test_a_ledger_that_was_emptied_under_the_node_takes_nothing(node: NodeFixture) -> None:
    """As a database that was dropped and made anew is, or put back without its rows."""
    right = custody(node)
    right.verify()
    node.arrive()
    forget(node.ledger)
    with node.ledger.write() as session:
        session.execute(sa.text("DELETE FROM instance"))
    with pytest.raises(StorageError, match=MISMATCH), right.ledger.transaction():
        pytest.fail("something was written")


def deleted(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    shutil.copy(path, path.with_name("backup"))
    path.with_name("backup").replace(path)


@pytest.mark.parametrize("ending", ["", "-wal"])
@pytest.mark.parametrize("happen", [deleted, replaced])
def test_a_ledger_file_that_is_deleted_or_replaced_is_noticed_before_the_next_answer(
    tmp_path: Path, happen: Callable[[Path], None], ending: str
) -> None:
    node = NodeFixture(tmp_path)
    node.arrive()
    happen(tmp_path / "var" / f"ledger.db{ending}")
    stored = node.store(b"2", sop_uid="1.2.2")
    with pytest.raises(StorageError, match="was deleted or replaced"):
        node.record(stored, sop_uid="1.2.2")
    with pytest.raises(StorageError, match="was deleted or replaced"), node.ledger.read():
        pytest.fail("something was read")
    assert stored.path.exists()
    node.ledger.close()
    assert (tmp_path / "var" / "ledger.db").exists() == (happen is replaced or ending == "-wal")


def test_a_ledger_file_deleted_within_a_transaction_is_noticed_before_its_answer(
    tmp_path: Path,
) -> None:
    node = NodeFixture(tmp_path)
    node.arrive()
    with pytest.raises(StorageError, match="was deleted or replaced"), node.ledger.transaction():
        (tmp_path / "var" / "ledger.db").unlink()
    node.ledger.close()


def test_a_ledger_file_moved_away_and_back_goes_on(tmp_path: Path) -> None:
    node = NodeFixture(tmp_path)
    path = tmp_path / "var" / "ledger.db"
    path.rename(tmp_path / "away")
    with pytest.raises(StorageError, match="was deleted or replaced"):
        node.arrive()
    (tmp_path / "away").rename(path)
    node.arrive()
    node.ledger.close()


def test_connections_that_close_and_open_again_are_no_loss(tmp_path: Path) -> None:
    node = NodeFixture(tmp_path)
    for number in range(3):
        node.arrive(sop_uid=f"1.2.{number + 1}")
        node.ledger.engine.dispose()
    with node.ledger.read() as session:
        assert session.scalar(sa.text("SELECT count(*) FROM instance")) == 3
    node.ledger.close()


def test_what_came_again_leaves_unknown(node: NodeFixture) -> None:
    custody(node).verify()
    stray = node.store(b"1")
    os.utime(stray.path, (1000.0, 1000.0))
    aside = node.settings.unknown_folder / "inbox" / stray.name
    assert set_aside_unknown(custody(node), node.settings, before=2000.0).images == 1
    assert (stray.path.exists(), aside.exists()) == (False, True)
    node.arrive(b"1")  # the sender comes again
    assert set_aside_unknown(custody(node), node.settings, before=2000.0).images == 0
    assert (stray.path.exists(), aside.exists()) == (True, False)


def test_an_image_that_is_entered_while_the_sweep_looks_stays(node: NodeFixture) -> None:
    stray, taken = node.store(b"1"), list[str]()
    node.record(stray)
    assert take_unentered(node.ledger, [stray.name], taken.append) == taken == []


def test_jobs_are_worked_on_only_for_the_right_folder(node: NodeFixture, other: Ledger) -> None:
    right = custody(node)
    right.verify()
    node.job()
    identity_file(node).write_text("0" * 32)
    with pytest.raises(StorageError, match=MISMATCH):
        claim_job(right.ledger, owner="w", off_peak=True, clock=lambda: 1e9)
    assert [job.state for job in list_jobs(node.ledger)] == [JobState.QUEUED]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    settings.inbox_folder.mkdir(parents=True)
    assert custody_faults(None, settings) == ()
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    settings.inbox_folder.chmod(0o500)
    assert "cannot be written" in custody_faults(None, settings)[0]


def test_troubles_are_told_while_ledger_and_storage_do_not_belong_together(
    node: NodeFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = threading.Event()
    custody(node).verify()
    identity_file(node).write_text("0" * 32)
    monkeypatch.setattr(sweeps, "alarm", lambda *_: Ears(told))
    monkeypatch.setattr("dicom_node.custody.identity.RECONNECT_SECONDS", 0.01)
    asked = iter(range(1000))
    run_housekeeping(node.settings, should_stop=lambda: told.is_set() or next(asked) > 100)
    assert told.is_set()


class Ears:
    """Records the problems that are reported."""

    def __init__(self, told: threading.Event) -> None:
        self._told = told

    def notify_problems(self, _now: float) -> None:
        self._told.set()
