"""Notifications: one for each failed job, to real mail and web servers on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.collectors import Collected, mail_collector, mails, web_collector
from support.ledger_factory import START, NodeFixture, later
from support.peers import free_port

from dicom_node.housekeeping.channel import MAX_DELAY_SECONDS
from dicom_node.housekeeping.message import MAX_JOBS
from dicom_node.housekeeping.notification import Notification
from dicom_node.ledger.operations import retry
from dicom_node.logs import short_hash

TOKEN = "secret-of-the-hook"


@pytest.fixture
def mail() -> Iterator[Collected]:
    with mail_collector() as collector:
        yield collector


@pytest.fixture
def hook() -> Iterator[Collected]:
    with web_collector() as collector:
        yield collector


def to_mail(port: int) -> dict[str, Any]:
    return {
        "email": {
            "host": "127.0.0.1",
            "port": port,
            "sender": "node@site.example",
            "recipients": ["pacs@site.example", "physics@site.example"],
        }
    }


def to_hook(port: int) -> dict[str, Any]:
    return {"webhook": {"url": f"http://127.0.0.1:{port}/hooks/{TOKEN}", "token": TOKEN}}


def fail_a_job(node: NodeFixture, series_uid: str = "1.2", reason: str = "it is bent") -> int:
    job = node.job(series_uid=series_uid)
    return fail_again(node, job.id, reason)


def fail_again(node: NodeFixture, job_id: int, reason: str = "still bent") -> int:
    later(node.claim_job(START + 1), START + 2 + job_id).fail(reason)
    return job_id


def told(hook: Collected) -> list[dict[str, Any]]:
    return [json.loads(item[item.index(b"{") :]) for item in hook.items]


def test_a_failed_job_is_notified_by_mail(tmp_path: Path, mail: Collected) -> None:
    node = NodeFixture(tmp_path, notify=to_mail(mail.port))
    job_id = fail_a_job(node)
    Notification(node.ledger, node.settings).notify(START)
    (message,) = mails(mail)
    assert message["To"] == "pacs@site.example, physics@site.example"
    assert message["Subject"].startswith("DENOISE on ")
    assert f"job {job_id} (series {short_hash('1.2')}): it is bent" in message.as_string()


def test_a_failed_job_is_notified_to_the_web_hook(tmp_path: Path, hook: Collected) -> None:
    node = NodeFixture(tmp_path, notify=to_hook(hook.port))
    job_id = fail_a_job(node)
    Notification(node.ledger, node.settings).notify(START)
    assert hook.items[0].startswith(f"Bearer {TOKEN}".encode())
    (document,) = told(hook)
    assert (document["event"], document["node"]) == ("jobs_failed", "DENOISE")
    assert [(job["id"], job["reason"]) for job in document["jobs"]] == [(job_id, "it is bent")]
    assert "1.2.1" not in json.dumps(document)


def test_each_job_is_notified_once_even_after_a_restart(tmp_path: Path, hook: Collected) -> None:
    node = NodeFixture(tmp_path, notify=to_hook(hook.port))
    fail_a_job(node)
    for _ in range(2):
        notification = Notification(node.ledger, node.settings)
        notification.notify(START)
        notification.notify(START + 10)
    assert len(hook.items) == 1


def test_a_job_that_fails_again_after_a_retry_is_notified_again(
    tmp_path: Path, hook: Collected
) -> None:
    node = NodeFixture(tmp_path, notify=to_hook(hook.port))
    notification = Notification(node.ledger, node.settings)
    job_id = fail_a_job(node)
    notification.notify(START)
    retry(node.ledger, job_id, now=START + 5)
    notification.notify(START + 6)
    fail_again(node, job_id)
    notification.notify(START + 10)
    assert [job["reason"] for item in told(hook) for job in item["jobs"]] == [
        "it is bent",
        "still bent",
    ]


def test_jobs_that_fail_together_share_a_notification(tmp_path: Path, hook: Collected) -> None:
    node = NodeFixture(tmp_path, notify=to_hook(hook.port))
    for number in range(MAX_JOBS + 2):
        fail_a_job(node, series_uid=f"1.{number + 3}")
    notification = Notification(node.ledger, node.settings)
    notification.notify(START)
    notification.notify(START + 10)
    (document,) = told(hook)
    assert len(document["jobs"]) == MAX_JOBS
    assert "and 2 more" in document["text"]


def test_an_unreachable_mail_server_delays_no_other_and_is_tried_later(
    tmp_path: Path, hook: Collected
) -> None:
    port = free_port()
    node = NodeFixture(tmp_path, notify={**to_mail(port), **to_hook(hook.port)})
    fail_a_job(node)
    notification = Notification(node.ledger, node.settings)
    notification.notify(START)
    notification.notify(START + 10)
    assert len(hook.items) == 1
    with mail_collector(port) as mail:
        notification.notify(START + MAX_DELAY_SECONDS)
        notification.notify(START + 2 * MAX_DELAY_SECONDS)
    assert (len(mail.items), len(hook.items)) == (1, 1)


@pytest.mark.parametrize("kind", ["mail", "hook"])
def test_a_server_that_refuses_is_tried_again_but_not_at_once(
    tmp_path: Path, mail: Collected, hook: Collected, kind: str
) -> None:
    server = mail if kind == "mail" else hook
    notify = to_mail(mail.port) if kind == "mail" else to_hook(hook.port)
    node = NodeFixture(tmp_path, notify=notify)
    fail_a_job(node)
    notification = Notification(node.ledger, node.settings)
    server.refusing = True
    notification.notify(START)
    server.refusing = False
    notification.notify(START + 59)
    assert server.items == []
    notification.notify(START + 60)
    assert len(server.items) == 1


def test_the_address_of_the_hook_stays_out_of_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = NodeFixture(tmp_path, notify=to_hook(free_port()))
    fail_a_job(node)
    Notification(node.ledger, node.settings).notify(START)
    said = capsys.readouterr()
    assert "notification waits" in said.out + said.err
    assert TOKEN not in said.out + said.err


def test_failures_before_a_channel_is_configured_are_not_notified_later(
    tmp_path: Path, hook: Collected
) -> None:
    node = NodeFixture(tmp_path / "node")
    fail_a_job(node)
    Notification(node.ledger, node.settings).notify(START)
    settings = node.settings.model_copy(
        update={"notify": NodeFixture(tmp_path, notify=to_hook(hook.port)).settings.notify}
    )
    Notification(node.ledger, settings).notify(START + 10)
    assert hook.items == []
