"""The health check fails while due work makes no progress, whatever the cause."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.ledger_factory import NodeFixture
from support.peers import free_port, run_command
from support.web_server import all_parts_run, ask, serving

from dicom_node import telemetry
from dicom_node.health import KINDS, find_problems, take_snapshot
from dicom_node.health.refusals import note_turned_away
from dicom_node.heartbeat import HeartbeatAges, SweepBeats
from dicom_node.ledger.commitment_requests import accept_request
from dicom_node.ledger.operations import cancel, retry
from dicom_node.ledger.pauses import pause
from dicom_node.processes.parts import run_part
from dicom_node.settings import Settings
from dicom_node.work_order import Priority

HOUR = 3600.0
QUIET = {"retention": {"disk_reserve_gib": 0}}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeFixture]:
    """A node whose parts run."""
    fixture = NodeFixture(tmp_path, web={"port": free_port()}, **QUIET)
    all_parts_run(fixture)
    yield fixture
    telemetry.close_telemetry()
    fixture.ledger.close()


def result(node: NodeFixture, at: float) -> int:
    """A job with a result that the PACS has not got."""
    job = node.job(now=at)
    node.claim_job(at).derived(1)
    return job.id


def pacs_is_down(node: NodeFixture, at: float) -> None:
    result(node, at)
    delivery = node.claim_delivery("pacs", at)
    delivery.retry_later("away", delay_seconds=60, counted=False)


def job_failed(node: NodeFixture, at: float) -> None:
    node.job(now=at)
    node.claim_job(at).fail("it is bent")


def no_worker(node: NodeFixture, at: float) -> None:
    node.job(now=at)


def disk_full_in_the_worker(node: NodeFixture, at: float) -> None:
    node.job(now=at)
    node.claim_job(at).retry_later("full", delay_seconds=60)


def series_never_complete(node: NodeFixture, at: float) -> None:
    node.arrive(now=at)


def stage_paused(node: NodeFixture, at: float) -> None:
    pause(node.ledger, "send:pacs", reason="the PACS is moved", now=at)


def no_report_of_the_pacs(node: NodeFixture, at: float) -> None:
    result(node, at)
    delivery = node.claim_delivery("pacs", at)
    delivery.begin_commitment("2.25.1")
    delivery.await_commitment("2.25.1", wait_seconds=1e6)


def report_owed(node: NodeFixture, at: float) -> None:
    accept_request(
        node.ledger, transaction_uid="2.25.2", requester="PACS", items=[("1.2", "1.3")], now=at
    )


@pytest.mark.parametrize(
    ("befalls", "kind", "words"),
    [
        (pacs_is_down, "send", "Results for pacs have waited 5 h"),
        (job_failed, "failed", "1 job has failed"),
        (no_worker, "denoise", "A job has waited 5 h"),
        (disk_full_in_the_worker, "denoise", "A job has waited 5 h"),
        (series_never_complete, "arriving", "A series has been arriving for 5 h"),
        (stage_paused, "paused", "send:pacs has been paused for 5 h"),
        (no_report_of_the_pacs, "commitment", "pacs was asked 5 h ago"),
        (report_owed, "commitment", "PACS has waited 5 h for a report"),
    ],
)
def test_nothing_is_green_while_something_owed_stands_still(
    node: NodeFixture, befalls: Callable[[NodeFixture, float], None], kind: str, words: str
) -> None:
    befalls(node, time.time() - 5 * HOUR)
    with serving(node.settings) as port:
        health, page = ask(port, "/healthz"), ask(port, "/").body
        metrics, life = ask(port, "/metrics").metrics(), ask(port, "/livez").status
    answer = health.json()
    assert (health.status, answer["status"]) == (503, "degraded")
    assert any(reason.startswith(words) for reason in answer["reasons"])
    assert {trouble["kind"] for trouble in answer["troubles"]} == {kind}
    assert "Everything is in order" not in page
    assert words.split(" 5 h")[0] in page
    assert (metrics["dicom_node_healthy", ""], metrics["dicom_node_troubles", kind]) == (0, 1)
    assert life == 200, "no restart would help"


@pytest.mark.parametrize(
    "befalls", [pacs_is_down, no_worker, series_never_complete, stage_paused, report_owed]
)
def test_what_has_waited_a_moment_is_in_order(
    node: NodeFixture, befalls: Callable[[NodeFixture, float], None]
) -> None:
    befalls(node, time.time() - 10)
    with serving(node.settings) as port:
        answer = ask(port, "/healthz")
        assert "Everything is in order" in ask(port, "/").body
    assert (answer.status, answer.json()["reasons"]) == (200, [])


def test_senders_that_find_no_place_for_long_are_told_of(node: NodeFixture) -> None:
    now = time.time()
    for minute in (6, 4, 2):
        note_turned_away(node.settings.metrics_folder, now - 60 * minute)
        assert found(node) == []
    note_turned_away(node.settings.metrics_folder, now)
    with serving(node.settings) as port:
        answer = ask(port, "/healthz")
    assert (answer.status, answer.json()["status"]) == (503, "unhealthy")
    (trouble,) = answer.json()["troubles"]
    assert trouble["kind"] == "door"
    assert trouble["text"].startswith("Senders have been turned away for 6 min")


def test_off_peak_jobs_may_wait_for_the_night(node: NodeFixture) -> None:
    node.job(priority=Priority.OFF_PEAK, now=time.time() - 5 * HOUR)
    assert found(node) == []
    assert "denoise" in {trouble.kind for trouble in troubles_at(node, time.time() + 48 * HOUR)}


@pytest.mark.parametrize("seen_to", [retry, cancel])
def test_a_failed_job_is_over_once_somebody_has_seen_to_it(
    node: NodeFixture, seen_to: Callable[..., Any]
) -> None:
    job_failed(node, time.time())
    assert [trouble.kind for trouble in found(node)] == ["failed"]
    seen_to(node.ledger, 1, now=time.time())
    assert found(node) == []


@pytest.mark.parametrize("seen_to", [retry, cancel])
def test_a_refusal_is_told_at_once_while_another_destination_keeps_the_job_open(
    node: NodeFixture, seen_to: Callable[..., Any]
) -> None:
    now = time.time()
    job = node.job(destinations=("pacs", "archive"), now=now)
    node.claim_job(now).derived(1)
    assert found(node) == []
    delivery = node.claim_delivery("pacs", now)
    delivery.fail("no CT here")
    (trouble,) = found(node)
    assert (trouble.kind, trouble.severity) == ("failed", "degraded")
    assert trouble.text.startswith("pacs has not accepted the results of 1 job, ")
    assert f"`dicom-node jobs show {job.id}`" in trouble.text
    seen_to(node.ledger, job.id, now=now)
    assert found(node) == []


def test_the_limits_are_those_of_the_settings(tmp_path: Path) -> None:
    patient = NodeFixture(tmp_path, health={"send_seconds": 10 * HOUR}, **QUIET)
    all_parts_run(patient)
    pacs_is_down(patient, time.time() - 5 * HOUR)
    assert found(patient) == []
    telemetry.close_telemetry()
    patient.ledger.close()


def test_a_sweep_that_no_longer_runs_is_missed(node: NodeFixture) -> None:
    beats = SweepBeats(telemetry.folder_of_host(node.settings.metrics_folder))
    beats.begin({"complete_series": 1.0, "enforce_retention": 600.0})
    assert found(node) == []
    with serving(node.settings) as port:
        assert set(ask(port, "/api/status").json()["sweeps"]) == {
            "complete_series",
            "enforce_retention",
        }
    (trouble,) = [t for t in troubles_at(node, time.time() + 200) if t.kind == "sweep"]
    assert "complete_series ran 3 min ago" in trouble.text


def test_sweeps_of_an_earlier_run_are_not_overdue_after_a_start(
    node: NodeFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = telemetry.folder_of_host(node.settings.metrics_folder)
    SweepBeats(folder).begin({"complete_series": 1.0, "enforce_retention": 600.0})
    for path in folder.glob("*.sweep"):
        os.utime(path, (time.time() - 8 * HOUR,) * 2)
    assert [trouble.kind for trouble in found(node)] == ["sweep", "sweep"]
    answers: list[Any] = []

    def before_its_first_sweep(settings: Settings, **_rest: object) -> None:
        assert settings.web is not None
        answers.append(ask(settings.web.port, "/healthz"))

    monkeypatch.setattr("dicom_node.housekeeping.run_housekeeping", before_its_first_sweep)
    run_part("serve", node.settings, should_stop=lambda: False)
    assert [(answer.status, answer.json()["reasons"]) for answer in answers] == [(200, [])]


def test_sweeps_that_another_host_ran_under_another_name_are_not_missed(node: NodeFixture) -> None:
    metrics = node.settings.metrics_folder
    SweepBeats(metrics / "before").begin({"complete_series": 1.0, "tell_troubles": 30.0})
    for path in (metrics / "before").glob("*.sweep"):
        os.utime(path, (time.time() - 8 * HOUR,) * 2)
    now = SweepBeats(telemetry.folder_of_host(metrics))
    now.begin({"complete_series": 1.0, "notify_problems": 30.0})
    assert found(node) == []


def test_silence_is_counted_on_a_clock_that_nobody_sets() -> None:
    ticks = iter([0.0, 0.0, 10.0, 20.0, 30.0])
    ages = HeartbeatAges(lambda: next(ticks))
    assert ages.seconds_since({"work": 1000.0}, now=1005.0) == {"work": 5.0}
    assert ages.seconds_since({"work": 1000.0}, now=-2600.0) == {"work": 15.0}, "set back"
    assert ages.seconds_since({"work": 4620.0}, now=1e9) == {"work": 10.0}, "set forward"
    assert ages.seconds_since({"work": 4620.0}, now=4630.0) == {"work": 20.0}


def test_a_clock_of_before_this_program_is_wrong(node: NodeFixture) -> None:
    assert "clock" in {trouble.kind for trouble in troubles_at(node, 1e9)}


def test_the_status_command_says_the_same(node: NodeFixture) -> None:
    pacs_is_down(node, time.time() - 5 * HOUR)
    config = node.folder / "node.yaml"
    config.write_text(
        "ae_title: DENOISE\npeers: [{name: pacs, ae_title: PACS, host: 127.0.0.1, port: 104}]\n"
        "destinations: [pacs]\nretention: {disk_reserve_gib: 0}\n"
        f"database: {node.settings.database}\n"
        "health: {receiver_seconds: 3600, part_seconds: 3600, worker_seconds: 3600}\n"
    )
    said = run_command("status", "-c", config).stdout
    assert said.startswith("Results for pacs have waited 5 h")


def test_kinds_have_names_of_their_own() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)


def found(node: NodeFixture) -> list[Any]:
    return troubles_at(node, time.time())


def troubles_at(node: NodeFixture, now: float) -> list[Any]:
    return find_problems(take_snapshot(node.settings, node.ledger, now=now))
