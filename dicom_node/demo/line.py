"""The demo's line: a real node between a scanner and a PACS, all on loopback."""

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
"""A series is complete after so long without an image; a minute in real life."""

START_SECONDS = 120.0
STOP_SECONDS = 120.0
POLL_SECONDS = 0.2

OnStage = Callable[[str], None]
"""Told in a few words what the line is doing."""


class DemoFailed(NodeError):  # noqa: N818 - the name says what happened
    """The demo's series did not come back."""


@dataclass(frozen=True)
class Stages:
    """How long each part of the line took, seconds.

    Attributes:
        receive: Scanner to node, to the last answer.
        wait: Until the node took the series for complete and a worker took it up.
        denoise: Reading, denoising, deriving and writing.
        send: Node to PACS, to the last answer.
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


def pass_through(
    files: Sequence[Path], pacs: DemoPacs, folder: Path, log: Path, model: str, tell: OnStage
) -> Stages:
    """Send files to a node that is started for it, and wait for the result at the PACS.

    Args:
        files: The low-dose series.
        pacs: Where the derived series must come back; running.
        folder: An empty folder for the node's configuration and data.
        log: Where the node's log lines go.
        model: The denoiser.
        tell: Told what is going on.

    Raises:
        DemoFailed: The node did not start, or its job failed.
    """
    node = _Node("demo node", NODE_TITLE, LOOPBACK, _free_port())
    config = folder / "node.yaml"
    config.write_text(yaml.safe_dump(_settings(node, pacs, model)), encoding="utf-8")
    tell("starting the node")
    with _running(config, log) as process:
        _wait_for_node(node, process, log)
        tell(f"scanner sends {len(files)} images")
        begin = time.time()
        results = send_files(node, files, calling_ae=SCANNER_TITLE)
        sent = time.time()
        refused = [result for result in results if not result.ok]
        if refused:
            raise DemoFailed(f"The node did not take an image: {refused[0].sentence}; see {log}.")
        ledger = open_ledger(f"sqlite:///{folder}/var/ledger.db")
        try:
            job = _wait_for_job(ledger, process, log, tell)
            tell("stopping the node")
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
    """``dicom-node start``, which ends with the block, or with this process however it ends."""
    command = [sys.executable, "-m", "dicom_node.cli", "start", "--supervised", "-c", str(config)]
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
    ledger: Ledger, process: subprocess.Popen[bytes], log: Path, tell: OnStage
) -> Job:
    said = {
        JobState.QUEUED: "the series is complete, its job waits",
        JobState.DENOISING: "denoising",
        JobState.DERIVED: "derived, waits to be sent",
        JobState.SENDING: "the node sends to the PACS",
        JobState.RETRY_WAIT: "waits to try again",
    }
    tell("the node waits for further images")
    while process.poll() is None:
        for job in list_jobs(ledger, limit=1):
            if job.state is JobState.DONE:
                return job
            if job.state in (JobState.FAILED, JobState.CANCELLED):
                raise DemoFailed(f"The node's job failed: {job.reason}")
            tell(said[job.state])
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
