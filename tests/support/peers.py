"""Processes that tests run: Orthanc, DCMTK's tools and the node, on free loopback ports."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

POLL_SECONDS = 0.05
START_SECONDS = 180.0
STOP_SECONDS = 150.0
SERVER_PORTS = (15_000, 32_000)
REPOSITORY = Path(__file__).parents[2]

_T = TypeVar("_T")


def require_program(name: str) -> str:
    """Path of a peer program; without it the test is skipped, or fails where peers are promised."""
    path = shutil.which(name)
    if path is None:
        message = f"{name} is not installed (Debian packages: orthanc, dcmtk, dicom3tools)"
        if os.environ.get("CI_REQUIRES_PEERS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return path


def free_port() -> int:
    """A port that nobody listens on, out of the range that the kernel gives to callers.

    Within that range a connection of anybody may hold it by the time that a part starts again.
    """
    while True:
        port = random.SystemRandom().randrange(*SERVER_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(what: str, condition: Callable[[], _T], seconds: float = START_SECONDS) -> _T:
    """Poll until the condition holds and return its value; fail in words after the deadline."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:.0f} s still not: {what}")
        time.sleep(POLL_SECONDS)
    return value


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def run_command(
    *arguments: str | Path, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """``dicom-node ARGUMENTS`` in a process of its own."""
    command = [sys.executable, "-m", "dicom_node.cli", *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def environment() -> dict[str, str]:
    """The tests' environment with the repository importable and no settings of this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DICOM_NODE_")}
    return {**kept, "PYTHONPATH": str(REPOSITORY)}


@dataclass
class Process:
    """A process that ends with its test."""

    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """As kill -9 does."""
        self.popen.kill()
        self.popen.wait()

    def stop(self) -> int:
        """Ask it to end and wait; its exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
                pytest.fail(f"did not stop within {STOP_SECONDS:.0f} s:\n{self.output}")
        return self.popen.returncode


@contextlib.contextmanager
def running(command: Sequence[str | Path], log: Path, *, cwd: Path) -> Iterator[Process]:
    with log.open("ab") as sink:
        popen = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    process = Process(popen, log)
    try:
        yield process
    finally:
        process.stop()


@dataclass(frozen=True)
class Ports:
    """Free ports for one test: PACS (DICOM, REST), node, scanner."""

    pacs: int = field(default_factory=free_port)
    rest: int = field(default_factory=free_port)
    node: int = field(default_factory=free_port)
    scanner: int = field(default_factory=free_port)


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc, seen through its REST interface."""

    ports: Ports
    process: Process

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.ports.rest}{path}", timeout=30
        ) as answer:
            return json.load(answer)

    def post(self, path: str, body: object) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports.rest}{path}", json.dumps(body).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def series(self) -> dict[str, list[str]]:
        """SeriesInstanceUID to the Orthanc identifiers of its instances."""
        return {
            item["MainDicomTags"]["SeriesInstanceUID"]: item["Instances"]
            for item in self.get("/series?expand")
        }

    def download(self, series_uid: str, folder: Path) -> list[Path]:
        """The files of a series, written into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for instance in self.series()[series_uid]:
            path = folder / f"{instance}.dcm"
            path.write_bytes(self.file(instance))
            paths.append(path)
        return sorted(paths)

    def file(self, instance: str) -> bytes:
        """The file of one instance, by its Orthanc identifier."""
        url = f"http://127.0.0.1:{self.ports.rest}/instances/{instance}/file"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return bytes(answer.read())


@contextlib.contextmanager
def orthanc(folder: Path, ports: Ports) -> Iterator[Orthanc]:
    """Orthanc with the auto-routing rule of ``tests/support/orthanc``."""
    program = require_program("Orthanc")
    folder.mkdir(parents=True)
    home = Path(__file__).parent / "orthanc"
    shutil.copy(home / "orthanc-loop.lua", folder)
    text = (home / "orthanc-loop.json").read_text()
    for written, port in (
        ("41142", ports.pacs),
        ("41143", ports.rest),
        ("41144", ports.node),
        ("41149", ports.scanner),
    ):
        text = text.replace(f" {written}", f" {port}")
    configuration = folder / "orthanc-loop.json"
    configuration.write_text(text)
    with running([program, configuration], folder / "orthanc.log", cwd=folder) as process:
        pacs = Orthanc(ports, process)
        wait_until("Orthanc answers", lambda: listening(ports.rest) and listening(ports.pacs))
        yield pacs


def node_settings(ports: Ports, **changes: Any) -> dict[str, Any]:
    """A quick node between the scanner and the PACS of a test."""
    return {
        "ae_title": "DENOISE",
        "listen": {"host": "127.0.0.1", "port": ports.node},
        "storage": "var",
        "database": "sqlite:///var/ledger.db",
        "complete_after_seconds": 1,
        "peers": [
            {"name": "pacs", "ae_title": "LOOPPACS", "host": "127.0.0.1", "port": ports.pacs}
        ],
        "destinations": ["pacs"],
        "model": {"name": "identity", "device": "cpu"},
        "retry": {"attempts": 10, "first_delay_seconds": 1, "longest_delay_seconds": 2},
        "retention": {"disk_reserve_gib": 0, "disk_high_watermark": 1.0},
        "web": None,
        **changes,
    }


def write_node(folder: Path, settings: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "node.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@contextlib.contextmanager
def node(config: Path, *ports: int) -> Iterator[Process]:
    """``dicom-node start``, listening at all of ``ports``: each part opens its own."""
    command = [sys.executable, "-m", "dicom_node.cli", "start", "-c", config]
    log = config.parent / "node.log"
    with running(command, log, cwd=config.parent) as process:
        wait_until(
            "the node listens",
            lambda: all(map(listening, ports)) or process.popen.poll() is not None,
        )
        if process.popen.poll() is not None:
            pytest.fail(f"the node ended with code {process.popen.returncode}:\n{process.output}")
        yield process


def storescu(files: Sequence[Path], port: int, *, calling: str, called: str) -> None:
    """DCMTK plays the scanner."""
    command = [
        require_program("storescu"), "-xe", "-aet", calling, "-aec", called, "127.0.0.1", str(port),
        *map(str, files),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def children(pid: int) -> dict[str, int]:
    """The node's parts by command: number of the process that runs it."""
    parts = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        if b"--supervised" in words:
            parts[words[words.index(b"--supervised") - 1].decode()] = int(child)
    return parts
