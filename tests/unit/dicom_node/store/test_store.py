"""Inbox and outbox: whole or not there, never overwritten, no identity in a name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.ledger_factory import META, NodeFixture

from dicom_node.errors import StorageError


def files_under(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_an_image_is_stored_as_it_came(node: NodeFixture) -> None:
    stored = node.store(b"data set")
    assert stored.path.read_bytes() == META + b"data set"
    assert node.inbox.path(stored.name) == stored.path
    assert "1.2" not in stored.name


def test_the_same_image_again_is_the_same_file(node: NodeFixture) -> None:
    first, second = node.store(b"data set"), node.store(b"data set")
    assert first == second
    assert files_under(node.inbox.root) == [first.path]


def test_a_file_that_was_cut_short_is_written_again(node: NodeFixture) -> None:
    first = node.store(b"data set")
    first.path.write_bytes(META)
    assert node.store(b"data set").path.read_bytes() == META + b"data set"


def test_other_bytes_never_overwrite(node: NodeFixture) -> None:
    first, second = node.store(b"one"), node.store(b"two")
    assert first.path.read_bytes().endswith(b"one")
    aside = node.inbox.quarantine(second)
    assert aside.read_bytes().endswith(b"two")
    assert files_under(node.inbox.root) == [first.path]


def test_a_failed_write_leaves_nothing(node: NodeFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        node.store(b"data set")
    assert files_under(node.inbox.root) == []


def test_half_written_files_are_swept(node: NodeFixture) -> None:
    stored = node.store(b"data set")
    stored.path.with_name("x.dcm.0123.part").write_bytes(b"half")
    (node.inbox.root / "series.0123.part").mkdir()
    assert node.inbox.sweep_leftovers() == 2
    assert files_under(node.inbox.root) == [stored.path]


def test_images_are_removed_alone_and_their_folder_when_it_is_empty(node: NodeFixture) -> None:
    one, late = node.store(b"one"), node.store(b"late", sop_uid="1.2.2")
    other = node.store(b"two", series_uid="1.3")
    node.inbox.remove_images([one.name, "gone/gone.dcm"])
    assert files_under(node.inbox.root) == sorted([late.path, other.path])
    node.inbox.remove_images([late.name])
    assert list(node.inbox.root.iterdir()) == [other.path.parent]


def test_a_result_appears_in_one_step(node: NodeFixture) -> None:
    staging = node.outbox.stage("token")
    (staging / "0001.dcm").write_bytes(b"derived")
    assert node.outbox.committed("token") == ()
    assert node.outbox.tokens() == set()
    (file,) = node.outbox.commit("token", staging)
    assert file.read_bytes() == b"derived"
    assert node.outbox.committed("token") == (file,)
    assert node.outbox.tokens() == {"token"}


def test_a_result_that_is_there_stays(node: NodeFixture) -> None:
    for content in (b"first", b"second"):
        staging = node.outbox.stage("token")
        (staging / "0001.dcm").write_bytes(content)
        files = node.outbox.commit("token", staging)
    assert files[0].read_bytes() == b"first"
    assert [folder.name for folder in node.outbox.root.iterdir()] == ["token"]


def test_only_staging_that_nobody_uses_is_swept(node: NodeFixture) -> None:
    dead, busy = node.outbox.stage("dead"), node.outbox.stage("busy")
    assert node.outbox.sweep_leftovers(lambda: {"busy"}) == 1
    assert (dead.exists(), busy.exists()) == (False, True)


def test_a_folder_that_cannot_be_made_is_told(node: NodeFixture) -> None:
    node.outbox.root.parent.mkdir(exist_ok=True)
    node.outbox.root.write_text("a file")
    with pytest.raises(StorageError, match="cannot be written"):
        node.outbox.stage("token")


def test_only_images_that_lie_for_long_are_looked_up(node: NodeFixture) -> None:
    old, fresh = node.store(b"2", sop_uid="1.2.2"), node.store(b"3", sop_uid="1.2.3")
    os.utime(old.path, (1000.0, 1000.0))
    assert list(node.inbox.series_untouched_since(2000.0)) == [[old.name]]
    assert sorted(node.inbox.names()) == sorted([old.name, fresh.name])


def test_a_draft_is_no_leftover_while_it_is_written(node: NodeFixture) -> None:
    with node.inbox.begin(b"meta") as draft:
        draft.write(b"pixels")
        assert node.inbox.sweep_leftovers() == 0
        stored = node.inbox.keep(draft, series_uid="1.2", sop_uid="1.2.1")
    assert stored.path.read_bytes() == b"metapixels"
    assert [path for path in node.inbox.root.rglob("*") if path.is_file()] == [stored.path]


def test_a_torn_file_of_the_same_name_is_not_trusted(node: NodeFixture) -> None:
    stored = node.store(b"pixels", sop_uid="1.2.1")
    stored.path.write_bytes(bytes(stored.size))
    assert node.store(b"pixels", sop_uid="1.2.1") == stored
    assert stored.path.read_bytes().endswith(b"pixels")
