"""The round trip of the demonstration: scanner, a real node and PACS, all on loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from dicom_node.demo.pacs import LOOPBACK, DemoPacs
from dicom_node.errors import NodeError
from dicom_node.ledger import history
from dicom_node.ledger.engine import Ledger, open_ledger
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import list_jobs
from dicom_node.ledger.states import JobState
from dicom_node.sending.calls import send_files

SCANNER_TITLE = "DEMO_CT"
NODE_TITLE = "DENOISE"
PACS_TITLE = "DEMO_PACS"

QUIET_SECONDS = 2.0
"""A series is complete after this time without an image; a minute in clinical use."""

START_SECONDS = 120.0
STOP_SECONDS = 120.0
POLL_SECONDS = 0.2

OnStage = Callable[[str], None]
"""Called with a short description of the current stage."""


class DemoFailed(NodeError):  # noqa: N818 - the name says what happened
    """The series of the demonstration did not come back."""


@dataclass(frozen=True)
class Stages:
    """Durations of the stages, seconds.

    Attributes:
        receive: Scanner to node, until the last response.
        wait: Until the node considered the series complete and a worker claimed it.
        denoise: Reading, denoising, deriving and writing.
        send: Node to PACS, until the last response.
    """

    receive: float
    wait: float
    denoise: float
    send: float


@dataclass(frozen=True)
class _Node:
    name: str
    ae_title: str
    host: str
    port: int


def round_trip(
    files: Sequence[Path], pacs: DemoPacs, folder: Path, log: Path, model: str, on_stage: OnStage
) -> Stages:
    """Send files to a node that is started for them, and wait for the result at the PACS.

    Args:
        files: The low-dose series.
        pacs: The running PACS that the derived series must arrive at.
        folder: An empty folder for the node's configuration and data.
        log: File for the node's log.
        model: Name of the model.
        on_stage: Called with each stage.

    Raises:
        DemoFailed: The node did not start, or its job failed.
    """
    node = _Node("demo node", NODE_TITLE, LOOPBACK, _free_port())
    config = folder / "node.yaml"
    config.write_text(yaml.safe_dump(_settings(node, pacs, model)), encoding="utf-8")
    on_stage("starting the node")
    with _running(config, log) as process:
        _wait_for_node(node, process, log)
        on_stage(f"the scanner sends {len(files)} images")
        begin = time.time()
        results = send_files(node, files, calling_ae=SCANNER_TITLE)
        sent = time.time()
        refused = [result for result in results if not result.ok]
        if refused:
            raise DemoFailed(f"The node refused an image: {refused[0].sentence}; see {log}.")
        ledger = open_ledger(f"sqlite:///{folder}/var/ledger.db")
        try:
            job = _wait_for_job(ledger, process, log, on_stage)
            on_stage("stopping the node")
            return _stages(ledger, job, begin, sent)
        finally:
            ledger.close()


def _settings(node: _Node, pacs: DemoPacs, model: str) -> dict[str, object]:
    return {
        "ae_title": node.ae_title,
        "listen": {"host": node.host, "port": node.port},
        "accept": {"calling": [SCANNER_TITLE]},
        "complete_after_seconds": QUIET_SECONDS,
        "peers": [
            {"name": "pacs", "ae_title": pacs.ae_title, "host": pacs.host, "port": pacs.port}
        ],
        "destinations": ["pacs"],
        "model": {"name": model},
        "retention": {"disk_reserve_gib": 0, "disk_high_watermark": 1.0},
        "web": None,
    }


@contextmanager
def _running(config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``dicom-node start`` within the block; it also ends with this process."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "dicom_node.cli",
        "start",
        "--supervised",
        "-c",
        str(config),
    ]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=sink, stderr=sink)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            if process.stdin is not None:
                process.stdin.close()


def _wait_for_node(node: _Node, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _listens(node):
        if process.poll() is not None or time.monotonic() > deadline:
            raise DemoFailed(f"The node did not start: see {log}.")
        time.sleep(POLL_SECONDS)


def _wait_for_job(
    ledger: Ledger, process: subprocess.Popen[bytes], log: Path, on_stage: OnStage
) -> Job:
    messages = {
        JobState.QUEUED: "the series is complete, its job is queued",
        JobState.DENOISING: "denoising",
        JobState.DERIVED: "derived, waiting to be sent",
        JobState.SENDING: "the node sends to the PACS",
        JobState.RETRY_WAIT: "waiting to retry",
    }
    on_stage("the node waits for further images")
    while process.poll() is None:
        for job in list_jobs(ledger, limit=1):
            if job.state is JobState.DONE:
                return job
            if job.state in (JobState.FAILED, JobState.CANCELLED):
                raise DemoFailed(f"The node's job failed: {job.reason}")
            on_stage(messages[job.state])
        time.sleep(POLL_SECONDS)
    raise DemoFailed(f"The node ended before the series was denoised: see {log}.")


def _stages(ledger: Ledger, job: Job, begin: float, sent: float) -> Stages:
    events = history.of_job(ledger, job.id)
    reached = {event.after: event.at for event in events if not event.destination}
    return Stages(
        receive=sent - begin,
        wait=reached[JobState.DENOISING] - sent,
        denoise=reached[JobState.DERIVED] - reached[JobState.DENOISING],
        send=reached[JobState.DONE] - reached[JobState.DERIVED],
    )


def _listens(node: _Node) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((node.host, node.port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
