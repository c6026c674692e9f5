"""Lasting problems are notified once, to a real web server on loopback."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.collectors import Collected, web_collector
from support.ledger_factory import NodeFixture
from support.web_server import all_parts_run

from dicom_node import telemetry
from dicom_node.health import Problem, Severity
from dicom_node.housekeeping.alarm import MIN_PROBLEM_SECONDS, MIN_REPEAT_SECONDS, Alarm, alarm

PACS_AWAY = Problem("send", Severity.DEGRADED, "Results for pacs have waited 35 min.")
FULL = Problem("disk", Severity.UNHEALTHY, "The disk is full.")
FAILED = Problem("failed", Severity.DEGRADED, "1 job has failed.")


@pytest.fixture
def hook() -> Iterator[Collected]:
    with web_collector() as collector:
        yield collector


@pytest.fixture
def node(tmp_path: Path, hook: Collected) -> Iterator[NodeFixture]:
    url = f"http://127.0.0.1:{hook.port}/hook"
    quiet = {"disk_reserve_gib": 0}
    built = NodeFixture(tmp_path, notify={"webhook": {"url": url}}, retention=quiet)
    yield built
    telemetry.close_telemetry()
    built.ledger.close()


def told(hook: Collected) -> list[list[str]]:
    """The kinds of each message."""
    documents = [json.loads(item[item.index(b"{") :]) for item in hook.items]
    assert {document["event"] for document in documents} <= {"troubles"}
    return [[trouble["kind"] for trouble in document["troubles"]] for document in documents]


def test_a_lasting_problem_is_notified_once(node: NodeFixture, hook: Collected) -> None:
    found = [PACS_AWAY, FAILED]
    watch = Alarm(node.settings, lambda: found)
    watch.notify_problems(0.0)
    watch.notify_problems(MIN_PROBLEM_SECONDS - 1)
    assert hook.items == []
    for seconds in (0.0, 30.0, 60.0):
        watch.notify_problems(MIN_PROBLEM_SECONDS + seconds)
    assert told(hook) == [["send"]]
    assert b"35 min" in hook.items[0]
    found.append(FULL)
    watch.notify_problems(1000.0)
    watch.notify_problems(1000.0 + MIN_PROBLEM_SECONDS)
    assert told(hook) == [["send"], ["disk"]]


def test_an_intermittent_problem_is_not_notified_each_time(
    node: NodeFixture, hook: Collected
) -> None:
    found: list[Problem] = []
    watch = Alarm(node.settings, lambda: found)
    for number in range(10):
        found[:] = [PACS_AWAY] if number % 2 else []
        for seconds in (0.0, MIN_PROBLEM_SECONDS):
            watch.notify_problems(number * 2 * MIN_PROBLEM_SECONDS + seconds)
    assert told(hook) == [["send"]]
    found[:] = []
    watch.notify_problems(MIN_REPEAT_SECONDS)
    found[:] = [PACS_AWAY]
    for seconds in (0.0, MIN_PROBLEM_SECONDS):
        watch.notify_problems(2 * MIN_REPEAT_SECONDS + seconds)
    assert told(hook) == [["send"], ["send"]]


def test_an_unreachable_channel_is_notified_later(node: NodeFixture, hook: Collected) -> None:
    watch = Alarm(node.settings, lambda: [PACS_AWAY])
    hook.refusing = True
    watch.notify_problems(0.0)
    watch.notify_problems(200.0)
    hook.refusing = False
    watch.notify_problems(230.0)
    assert hook.items == []
    watch.notify_problems(260.0)
    assert told(hook) == [["send"]]


def test_the_alarm_of_a_node_looks_as_its_health_check_does(
    node: NodeFixture, hook: Collected
) -> None:
    all_parts_run(node)
    watch = alarm(node.ledger, node.settings)
    node.job(now=time.time() - 2 * node.settings.health.denoise_seconds)
    watch.notify_problems(0.0)
    watch.notify_problems(MIN_PROBLEM_SECONDS)
    assert told(hook) == [["denoise"]]
