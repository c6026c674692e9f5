"""``adopt`` and ``unknown``: what a person does after a ledger was lost or put back."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom import dcmread
from support.ledger_factory import NodeFixture
from support.peers import Ports, node_settings, write_node

from dicom_node.cli import main
from dicom_node.custody import Custody, set_aside_unknown
from dicom_node.ledger.arrivals import Recorded

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[NodeFixture]:
    """A node that the configuration in ``node`` describes."""
    built = NodeFixture(tmp_path / "node")
    Custody(built.ledger, built.settings).verify()
    yield built
    built.ledger.close()


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs a command of the node: exit code, and what it says."""

    def run(*words: str, **changes: str) -> tuple[int, str]:
        config = write_node(tmp_path / "node", node_settings(Ports(), **changes))
        monkeypatch.setattr(sys, "argv", ["dicom-node", *words, "-c", str(config)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        told = capsys.readouterr()
        return code, told.out + told.err

    return run


def age(node: NodeFixture) -> None:
    for path in node.settings.storage.rglob("*.dcm"):
        os.utime(path, (1000.0, 1000.0))


def rows(node: NodeFixture) -> int:
    with node.ledger.read() as session:
        return int(session.scalar(sa.text("SELECT count(*) FROM instance")) or 0)


def test_images_of_a_lost_ledger_are_taken_in_again_whole(
    shop: NodeFixture, command: Command
) -> None:
    shop.arrive_series(3)
    before = {path.name: path.read_bytes() for path in shop.inbox.root.rglob("*.dcm")}
    age(shop)
    new = {"database": "sqlite:///new.db"}
    code, said = command("unknown", "take-in", **new)
    assert (code, "does not belong to the storage folder" in said) == (1, True)
    assert command("adopt", "--yes", **new)[0] == 0
    code, said = command("unknown", "take-in", "--source", "CT1", **new)
    assert (code, said.startswith("Images taken in: 3; known already: 0;")) == (0, True)
    assert {path.name: path.read_bytes() for path in shop.inbox.root.rglob("*.dcm")} == before
    again = NodeFixture(shop.folder, database=f"sqlite:///{shop.folder}/new.db")
    with again.ledger.read() as session:
        asked = "SELECT source_ae, (SELECT count(*) FROM instance WHERE NOT purged) FROM series"
        assert [tuple(row) for row in session.execute(sa.text(asked))] == [("CT1", 3)]
    again.ledger.close()
    assert "is empty" in command("unknown", "list", **new)[1]


def test_what_is_unknown_is_listed_and_discarded_only_on_demand(
    shop: NodeFixture, command: Command
) -> None:
    shop.store(b"stray", series_uid="1.9")
    staging = shop.outbox.stage("stray")
    (staging / "0001.dcm").write_bytes(b"derived")
    shop.outbox.commit("stray", staging)
    os.utime(shop.outbox.root / "stray", (1000.0, 1000.0))
    age(shop)
    set_aside_unknown(Custody(shop.ledger, shop.settings), shop.settings, before=2000.0)
    code, said = command("unknown", "list", "--json")
    listed = {item["folder"].partition("/")[0]: item["images"] for item in json.loads(said)}
    assert (code, listed) == (0, {"inbox": 1, "outbox": 1})
    assert "1 images and 1 results" in command("check")[1]
    assert command("unknown", "discard")[0] != 0  # nobody has said yes
    assert len(list(shop.settings.unknown_folder.rglob("*.dcm"))) == 2
    assert command("unknown", "discard", "--yes")[0] == 0
    assert list(shop.settings.unknown_folder.rglob("*.dcm")) == []


@pytest.mark.parametrize("title", ["BAD\\AE", "A" * 25])
def test_a_source_that_is_no_ae_title_is_refused(command: Command, title: str) -> None:
    code, said = command("unknown", "take-in", "--source", title)
    assert (code, "Invalid value for '--source'" in said) == (2, True)


def test_a_torn_image_stays_where_it_is(shop: NodeFixture, command: Command) -> None:
    shop.arrive_series(2)
    whole, torn = sorted(shop.inbox.root.rglob("*.dcm"))
    study = str(dcmread(whole, stop_before_pixels=True).StudyInstanceUID)
    torn.write_bytes(torn.read_bytes()[:-100] + bytes(100))
    with shop.ledger.write() as session:
        session.execute(sa.text("DELETE FROM instance"))
        session.execute(sa.text("UPDATE series SET study_uid = :uid"), {"uid": study})
    age(shop)
    code, said = command("unknown", "take-in")
    assert (code, "Images taken in: 1;" in said, "1 images are damaged" in said) == (1, True, True)
    assert rows(shop) == 1
    assert whole.exists()
    assert [path.name for path in shop.settings.unknown_folder.rglob("*.dcm")] == [torn.name]


def test_an_image_that_contradicts_the_ledger_goes_to_quarantine(
    shop: NodeFixture, command: Command
) -> None:
    shop.arrive_series(1)
    (path,) = shop.inbox.root.rglob("*.dcm")
    with shop.ledger.write() as session:
        session.execute(sa.text("UPDATE instance SET sha256 = 'other', name = 'other'"))
    age(shop)
    code, said = command("unknown", "take-in")
    assert (code, "put into quarantine: 1;" in said) == (0, True)
    assert [aside.name for aside in shop.settings.quarantine_folder.rglob("*.dcm")] == [path.name]


def test_adopting_what_belongs_together_changes_nothing(
    shop: NodeFixture, command: Command
) -> None:
    assert shop.arrive() is Recorded.NEW
    assert command("adopt") == (0, "The ledger and the storage folder belong together already.\n")
