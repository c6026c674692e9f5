"""The web server as operators and Prometheus see it, over a real socket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.ledger_factory import NodeFixture
from support.peers import free_port
from support.web_server import all_parts_run, ask, serving

from dicom_node import telemetry
from dicom_node.errors import ConfigurationError, StorageError
from dicom_node.ledger.pauses import pause
from dicom_node.logs import short_hash
from dicom_node.web import web_served
from dicom_node.work_order import Priority

SMALL = {"retention": {"disk_reserve_gib": 0}}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeFixture]:
    fixture = NodeFixture(tmp_path, web={"port": free_port()}, **SMALL)
    yield fixture
    telemetry.close_telemetry()
    fixture.ledger.close()


def failed_job(node: NodeFixture, reason: str) -> int:
    job = node.job()
    node.claim_job(2e6).fail(reason)
    return job.id


def test_a_node_whose_parts_run_is_healthy(node: NodeFixture) -> None:
    all_parts_run(node)
    with serving(node.settings) as port:
        answer = ask(port, "/healthz")
    assert (answer.status, answer.json()) == (
        200,
        {"healthy": True, "status": "healthy", "reasons": [], "troubles": []},
    )


def test_a_part_that_was_never_started_is_missed(node: NodeFixture) -> None:
    with serving(node.settings) as port:
        answer = ask(port, "/healthz")
    assert answer.status == 503
    assert [reason.split(":")[0] for reason in answer.json()["reasons"]] == [
        "The receiver has not been started",
        "The worker has not been started",
        "The sender has not been started",
        "The housekeeping has not been started",
    ]


def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    settings = NodeFixture(tmp_path, web={"port": free_port()}, retention={"disk_reserve_gib": 1e9})
    settings.ledger.close()
    with serving(settings.settings) as port:
        answer = ask(port, "/healthz")
    assert answer.status == 503
    assert "free some space" in answer.json()["reasons"][0]


def test_a_missing_ledger_is_reported(node: NodeFixture) -> None:
    all_parts_run(node)
    with serving(node.settings) as port:
        with node.ledger.write() as session:
            session.connection().exec_driver_sql("ALTER TABLE series RENAME TO lost")
        health, page, metrics = (ask(port, path) for path in ("/healthz", "/", "/metrics"))
    assert health.status == 503
    assert health.json()["reasons"][0].startswith("The ledger cannot be read")
    assert "The ledger cannot be read" in page.body
    assert metrics.metrics()["dicom_node_ledger_up", ""] == 0


def test_metrics_show_states_ages_and_counters(node: NodeFixture) -> None:
    telemetry.open_telemetry(node.settings.metrics_folder, process="receive")
    telemetry.image_received("stored", 100)
    failed_job(node, "the scanner's table is bent")
    node.arrive(series_uid="1.3")
    with serving(node.settings, {"node.pem": 12.5}) as port:
        answer = ask(port, "/metrics")
    found = answer.metrics()
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert found["dicom_node_jobs", "FAILED"] == 1
    assert found["dicom_node_series", "ARRIVING"] == 1
    assert found["dicom_node_waiting_seconds", "arriving"] > 0
    assert found["dicom_node_waiting_seconds", "denoise"] == 0
    assert found["dicom_node_images_received_total", "stored"] == 1
    assert found["dicom_node_certificate_days_left", "node.pem"] == 12.5
    assert found["dicom_node_disk_free_bytes", ""] > 0
    assert found["dicom_node_healthy", ""] == 0


def test_results_that_a_destination_lacks_are_timed(node: NodeFixture) -> None:
    node.job(destinations=("pacs", "archive"))
    node.claim_job(1e6).derived(1)
    with serving(node.settings) as port:
        found, status = ask(port, "/metrics").metrics(), ask(port, "/api/status").json()
    assert status["deliveries"]["archive"]["PENDING"] == 1
    assert found["dicom_node_delivery_waiting_seconds", "archive"] > 0
    assert found["dicom_node_delivery_waiting_seconds", "pacs"] > 0


def test_jobs_for_the_quiet_hours_wait_apart(node: NodeFixture) -> None:
    node.job(priority=Priority.OFF_PEAK)
    with serving(node.settings) as port:
        found = ask(port, "/metrics").metrics()
    assert found["dicom_node_waiting_seconds", "off_peak"] > 0
    assert found["dicom_node_waiting_seconds", "denoise"] == 0


def test_a_pause_is_shown(node: NodeFixture) -> None:
    pause(node.ledger, "send:pacs", reason="the PACS is moved", now=1e6)
    with serving(node.settings) as port:
        page, found = ask(port, "/").body, ask(port, "/metrics").metrics()
    assert "the PACS is moved" in page
    assert (found["dicom_node_paused", "send:pacs"], found["dicom_node_paused", "send"]) == (1, 0)


def test_the_status_names_jobs_in_trouble_by_the_hash_of_the_logs(node: NodeFixture) -> None:
    job_id = failed_job(node, "the table is <bent>")
    with serving(node.settings) as port:
        status, page = ask(port, "/api/status"), ask(port, "/")
    (troubled,) = status.json()["troubled"]
    assert (troubled["id"], troubled["reason"]) == (job_id, "the table is <bent>")
    assert troubled["series"] == short_hash("1.2")
    assert "the table is &lt;bent&gt;" in page.body
    assert "1.2.1" not in status.body + page.body


def test_the_page_loads_nothing_from_elsewhere(node: NodeFixture) -> None:
    with serving(node.settings) as port:
        answer = ask(port, "/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not any(word in answer.body for word in ("http://", "https://", "<script", "src="))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(node: NodeFixture, method: str) -> None:
    with serving(node.settings) as port:
        assert ask(port, "/", method).status == 405
        assert ask(port, "/other").status == 404


def test_a_taken_port_is_said_in_a_sentence(node: NodeFixture) -> None:
    with (
        serving(node.settings) as port,
        pytest.raises(ConfigurationError, match=f"Port {port} on 127.0.0.1 is in use"),
        web_served(node.settings, certificate_days=dict),
    ):
        pass


def test_no_web_without_a_place(tmp_path: Path) -> None:
    node = NodeFixture(tmp_path, web=None)
    node.ledger.close()
    with web_served(node.settings, certificate_days=dict) as port:
        assert port is None


def test_certificates_that_cannot_be_read_stop_nothing(node: NodeFixture) -> None:
    def unreadable() -> Mapping[str, float]:
        raise StorageError("the certificate cannot be read.")

    with web_served(node.settings, certificate_days=unreadable) as port:
        assert port is not None
        assert ask(port, "/api/status").json()["certificates"] == {}
