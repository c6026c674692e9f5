"""The way of a series through the node: sent by a scanner, delivered to a PACS, all on loopback."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.machine import PeakMemory, free_port, serving
from benchmarks.series.parts import calls, seconds_by_part, tracing
from benchmarks.series.ways import Run, Work, process_name, reported
from dicom_node.sending.calls import send_files
from dicom_node.settings import PeerSettings

QUIET_SECONDS = 1.0
"""``complete_after_seconds`` of the node; a minute in clinical use."""

POLL_SECONDS = 0.1
MAX_WAIT_SECONDS = 3600.0
PACS_TITLE, NODE_TITLE = "PACS", "DENOISE"


@dataclass(frozen=True)
class Pacs:
    """A running receiver of derived series.

    Attributes:
        port: Its port on loopback.
        folder: Folder in which it writes one file for each image.
    """

    port: int
    folder: Path

    def arrivals(self) -> list[float]:
        """Return the times at which images were written, seconds since 1970, in order."""
        found = []
        for path in self.folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # it was renamed when it was complete
                if path.is_file() and not path.name.endswith(".part"):
                    found.append(path.stat().st_mtime)
        return sorted(found)


def by_node(work: Work, folder: Path) -> Run:
    """Send a series to a node of the checkout; from its last image to the last one delivered.

    The time contains ``QUIET_SECONDS``, in which the node waits for further images; the part
    ``wait`` ends when the worker reads the series.
    """
    environment = tracing(folder / "traces", work.checkout.root)
    with (
        _pacs(folder / "pacs") as pacs,
        _node(work, folder / "node", pacs, environment) as node,
        PeakMemory(node.process.pid, process_name) as memory,
    ):
        results = send_files(node.peer, work.files, calling_ae="SCANNER")
        sent = time.time()
        if not all(result.ok for result in results):
            raise RuntimeError("The node refused an image.")
        delivered = _all_delivered(pacs, len(work.files), node)
    found = calls(folder / "traces")
    reports = (folder / "node" / "var" / "reports").glob("*.json")
    (report,) = (json.loads(path.read_text(encoding="utf-8")) for path in reports)
    parts = {**seconds_by_part(found), **reported(report)}
    parts["wait"] = min(call.begin for call in found if call.part == "read") - sent
    parts["deliver"] = delivered - max(call.end for call in found if call.part == "write")
    return Run(
        "node", work.checkout.name, work.model, len(work.files), delivered - sent, parts,
        memory.mib, str(report["verdict"]),
    )  # fmt: skip


@dataclass(frozen=True)
class _Node:
    process: subprocess.Popen[bytes]
    peer: PeerSettings
    log: Path


@contextlib.contextmanager
def _node(work: Work, folder: Path, pacs: Pacs, environment: Mapping[str, str]) -> Iterator[_Node]:
    port = free_port()
    folder.mkdir(parents=True)
    settings = {
        "ae_title": NODE_TITLE,
        "listen": {"host": "127.0.0.1", "port": port},
        "complete_after_seconds": QUIET_SECONDS,
        "peers": [{"name": "pacs", "ae_title": PACS_TITLE, "host": "127.0.0.1", "port": pacs.port}],
        "destinations": ["pacs"],
        "model": {"name": work.model, "device": work.device},
        "guard": {"action": "flag"},
        "retention": {"disk_reserve_gib": 0, "disk_high_watermark": 1.0},
        "web": None,
    }
    (folder / "node.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [sys.executable, "-m", "dicom_node.cli", "start"]
    with serving(command, port, folder, environment) as process:
        yield _Node(process, _peer(NODE_TITLE, port), folder / "server.log")


@contextlib.contextmanager
def _pacs(folder: Path) -> Iterator[Pacs]:
    """Run DCMTK's storescp or, where it is not installed, a receiver of this checkout."""
    port, stored = free_port(), folder / "stored"
    stored.mkdir(parents=True)
    if shutil.which("storescp"):
        command: list[str | Path] = ["storescp", "-aet", PACS_TITLE, "-od", stored, str(port)]
        with serving(command, port, folder, {"TCP_NODELAY": "1"}):
            yield Pacs(port, stored)
        return
    settings = {
        "ae_title": PACS_TITLE,
        "listen": {"host": "127.0.0.1", "port": port},
        "peers": [{"name": "nobody", "ae_title": "NOBODY", "host": "127.0.0.1", "port": 104}],
        "destinations": ["nobody"],
        "retention": {"disk_reserve_gib": 0, "disk_high_watermark": 1.0},
    }
    (folder / "node.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    with serving([sys.executable, "-m", "dicom_node.cli", "receive"], port, folder, {}):
        yield Pacs(port, folder / "var" / "inbox")


def _peer(title: str, port: int) -> PeerSettings:
    return PeerSettings(name="node", ae_title=title, host="127.0.0.1", port=port)


def _all_delivered(pacs: Pacs, images: int, node: _Node) -> float:
    """Wait until the PACS has all images; return the time of the last one."""
    deadline = time.monotonic() + MAX_WAIT_SECONDS
    while len(times := pacs.arrivals()) < images:
        if time.monotonic() > deadline or node.process.poll() is not None:
            text = node.log.read_text(errors="replace")
            raise RuntimeError(f"The node has delivered {len(times)} of {images} images:\n{text}")
        time.sleep(POLL_SECONDS)
    return times[-1]
