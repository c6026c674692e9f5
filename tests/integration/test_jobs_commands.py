"""``status`` and ``jobs`` over a ledger with work in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ledger_factory import START, NodeFixture
from support.peers import Ports, node_settings, write_node
from typer.testing import CliRunner, Result

from dicom_node.cli.entry import application
from dicom_node.cli.output import moment
from dicom_node.errors import ConfigurationError
from dicom_node.ledger.deliveries import Sent
from dicom_node.ledger.operations import get_job
from dicom_node.ledger.pauses import list_pauses, pause
from dicom_node.ledger.states import JobState


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeFixture]:
    built = NodeFixture(tmp_path)
    write_node(tmp_path, node_settings(Ports()))
    yield built
    built.ledger.close()


def run(node: NodeFixture, *words: str) -> Result:
    return CliRunner().invoke(application(), [*words, "-c", str(node.folder / "node.yaml")])


def waiting(node: NodeFixture) -> int:
    """A job with one of two images at its destination, which is away now."""
    job = node.job()
    node.claim_job().derived(2)
    delivery = node.claim_delivery("pacs")
    sent = {"1.dcm": Sent("1.9.1", 0)}
    delivery.note_sent(sent)
    delivery.retry_later("away", delay_seconds=9)
    return job.id


def test_status_shows_waiting_work_and_its_reason(node: NodeFixture) -> None:
    waiting(node)
    run(node, "jobs", "pause", "denoise", "--reason", "new card")
    said = json.loads(run(node, "status", "--json").stdout)
    assert said["deliveries"]["pacs"]["PENDING"] == 1
    assert said["waiting_since"]["send"] == {"pacs": START}
    assert [(item["stage"], item["reason"]) for item in said["paused"]] == [("denoise", "new card")]
    assert [item["reason"] for item in said["failed"]] == ["away"]
    for_people = run(node, "status").stdout
    assert "Job 1 is RETRY_WAIT: away" in for_people
    assert "Stage denoise has been paused since" in for_people
    assert "The oldest result that pacs has not received has waited" in for_people


def test_show_has_deliveries_and_the_history_of_both(node: NodeFixture) -> None:
    number = str(waiting(node))
    said = json.loads(run(node, "jobs", "show", number, "--json").stdout)
    delivery = said["deliveries"]["pacs"]
    assert (delivery["state"], delivery["stored"], delivery["reason"]) == ("PENDING", 1, "away")
    assert [item["to"] for item in said["history"] if item["destination"] == "pacs"] == [
        "SENDING",
        "PENDING",
    ]
    for_people = run(node, "jobs", "show", number).stdout
    assert "1 of 2" in for_people
    assert moment(said["created_at"]) in for_people
    assert str(said["created_at"]) not in for_people


def test_retry_and_cancel_act_at_once(node: NodeFixture) -> None:
    number = waiting(node)
    assert run(node, "jobs", "retry", str(number)).stdout == "Job 1 is DERIVED.\n"
    assert run(node, "jobs", "cancel", str(number)).stdout == "Job 1 is CANCELLED.\n"
    assert get_job(node.ledger, number).state == JobState.CANCELLED


@pytest.mark.parametrize(
    "words", [("show",), ("retry",), ("cancel",), ("list", "--limit")], ids=lambda words: words[0]
)
def test_a_number_beyond_those_of_the_database_is_refused(
    node: NodeFixture, words: tuple[str, ...]
) -> None:
    refused = run(node, "jobs", *words, "9" * 23)
    assert (refused.exit_code, "Invalid value" in refused.output) == (2, True)


def test_stages_are_paused_and_resumed(node: NodeFixture) -> None:
    run(node, "jobs", "pause")
    run(node, "jobs", "pause", "send:pacs")
    paused = {item.stage for item in list_pauses(node.ledger)}
    assert paused == {"denoise", "send", "send:pacs"}
    assert run(node, "jobs", "resume", "send:pacs").stdout == "Stage send:pacs is resumed.\n"
    assert run(node, "jobs", "resume", "send:pacs").stdout == "Stage send:pacs was not paused.\n"
    run(node, "jobs", "resume")
    assert list_pauses(node.ledger) == []
    assert run(node, "jobs", "resume").stdout == "No stage was paused.\n"


@pytest.mark.parametrize(
    ("stage", "command"),
    [
        (stage, command)
        for stage in ("send:nobody", "derive", "")
        for command in ("pause", "resume")
    ],
)
def test_a_missing_stage_is_reported(node: NodeFixture, stage: str, command: str) -> None:
    """An empty one, as of a variable that is not set, must not pause everything."""
    pause(node.ledger, "denoise", reason="", now=START)
    assert isinstance(run(node, "jobs", command, stage).exception, ConfigurationError)
    assert [item.stage for item in list_pauses(node.ledger)] == ["denoise"]


def test_the_stage_of_a_removed_peer_is_resumed(node: NodeFixture) -> None:
    pause(node.ledger, "send:former", reason="", now=START)
    assert run(node, "jobs", "resume", "send:former").exit_code == 0
    assert list_pauses(node.ledger) == []


def test_a_cancelled_job_is_cancelled_already(node: NodeFixture) -> None:
    number = waiting(node)
    run(node, "jobs", "cancel", str(number))
    refused = run(node, "jobs", "cancel", str(number)).exception
    assert str(refused) == "Job 1 is cancelled already."
