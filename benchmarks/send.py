"""Send rate of the node against pynetdicom as shipped and DCMTK's storescu and dcmsend.

``python -m benchmarks.send`` sends one series of 512 x 512 CT images to storescp (as shipped,
and with TCP_NODELAY in its environment and in its senders') and to Orthanc, each sender in turn,
round after round, and prints the ratios of the medians. A run lasts from the call for the
association to its release; for DCMTK's programs that includes their start of some milliseconds.

``python -m benchmarks.send --runs 100`` only counts images that were not stored at once, in 100
runs of the node to each peer.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

import pynetdicom
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from benchmarks.ct_series import write_series
from benchmarks.machine import free_port, hardware, median, serving, table, write
from dicom_node.sending.calls import send_files
from dicom_node.settings import PeerSettings

AE_TITLE = "PACS"
NODELAY = {"TCP_NODELAY": "1"}
NODE, STOCK = "node", "pynetdicom"

Send = Callable[["Destination", Sequence[Path]], int]
"""Sends files and returns the number stored."""


@dataclass(frozen=True)
class Destination:
    """A running peer, the environment of its DCMTK senders, and a function that empties it."""

    peer: PeerSettings
    variables: Mapping[str, str]
    empty: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Run:
    """Result of sending the series once."""

    peer: str
    sender: str
    images: int
    stored: int
    seconds: float

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds


def main() -> None:
    """Run the benchmark."""
    pynetdicom._config.LOG_HANDLER_LEVEL = "none"  # formatting its log would cost it time
    options = _options()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="send-") as name:
        folder = Path(name)
        files = write_series(folder / "series", options.images, seed=1)
        runs = _count(options, folder, files) if options.runs else _compare(options, folder, files)
    report = {
        "hardware": hardware(),
        "options": vars(options),
        "runs": [asdict(run) for run in runs],
    }
    report["ratios"] = _ratios(runs)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    _print(report, runs)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.send", description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, help="count failures in so many runs of the node")
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--folder", help="where to write; on the disk that is to be measured")
    parser.add_argument("--json", help="file for the figures")
    return parser.parse_args()


def _compare(options: argparse.Namespace, folder: Path, files: Sequence[Path]) -> list[Run]:
    runs = []
    with _peers(options.peers, folder) as peers:
        for turn in range(options.rounds):
            for peer in options.peers:
                for at in range(len(SENDERS)):
                    sender = list(SENDERS)[(at + turn) % len(SENDERS)]
                    runs.append(_run(peer, sender, peers[peer], files))
                    write(_line(runs[-1]))
    return runs


def _count(options: argparse.Namespace, folder: Path, files: Sequence[Path]) -> list[Run]:
    with _peers(options.peers, folder) as peers:
        return [
            _run(peer, NODE, peers[peer], files)
            for peer in options.peers
            for _ in range(options.runs)
        ]


def _run(peer: str, sender: str, destination: Destination, files: Sequence[Path]) -> Run:
    begin = time.perf_counter()
    stored = SENDERS[sender](destination, files)
    seconds = time.perf_counter() - begin
    destination.empty()
    return Run(peer, sender, len(files), stored, seconds)


def _by_node(destination: Destination, files: Sequence[Path]) -> int:
    return sum(item.ok for item in send_files(destination.peer, files, calling_ae="BENCH"))


def _by_pynetdicom(destination: Destination, files: Sequence[Path]) -> int:
    entity = AE(ae_title="BENCH")
    entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    peer = destination.peer
    association = entity.associate(peer.host, peer.port, ae_title=peer.ae_title)
    stored = 0
    for path in files:
        if association.is_established:
            stored += getattr(association.send_c_store(path), "Status", None) == 0
    if association.is_established:
        association.release()
    return stored


def _by_program(*command: str) -> Send:
    def send(destination: Destination, files: Sequence[Path]) -> int:
        peer = destination.peer
        words = [*command, "-aet", "BENCH", "-aec", peer.ae_title, peer.host, str(peer.port)]
        environment = {**os.environ, **destination.variables}
        done = subprocess.run(
            [*words, *map(str, files)], env=environment, capture_output=True, check=False
        )
        return len(files) if done.returncode == 0 else 0

    return send


SENDERS: Mapping[str, Send] = {
    NODE: _by_node,
    STOCK: _by_pynetdicom,
    "storescu": _by_program("storescu"),
    "dcmsend": _by_program("dcmsend"),
}


@contextlib.contextmanager
def _peers(names: Sequence[str], folder: Path) -> Iterator[dict[str, Destination]]:
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(PEERS[name](folder / name)) for name in names}


def _storescp(
    variables: Mapping[str, str],
) -> Callable[[Path], AbstractContextManager[Destination]]:
    @contextlib.contextmanager
    def serve(folder: Path) -> Iterator[Destination]:
        port = free_port()
        (folder / "stored").mkdir(parents=True)
        command = ["storescp", "-aet", AE_TITLE, "-od", folder / "stored", str(port)]
        with serving(command, port, folder, variables):
            yield Destination(_peer(port), variables)

    return serve


@contextlib.contextmanager
def _orthanc(folder: Path) -> Iterator[Destination]:
    port, rest = free_port(), free_port()
    folder.mkdir(parents=True)
    configuration = {
        "StorageDirectory": str(folder / "stored"), "IndexDirectory": str(folder / "stored"),
        "HttpPort": rest, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "DicomAet": AE_TITLE, "DicomPort": port, "DicomAlwaysAllowStore": True,
        "MaximumPduLength": 131072,
    }  # fmt: skip
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration), encoding="utf-8")

    def empty() -> None:
        for patient in json.loads(_call(rest, "GET", "/patients")):
            _call(rest, "DELETE", f"/patients/{patient}")

    with serving(["Orthanc", path], port, folder, {}):
        yield Destination(_peer(port), {}, empty)


PEERS: Mapping[str, Callable[[Path], AbstractContextManager[Destination]]] = {
    "storescp": _storescp({}),
    "storescp nodelay": _storescp(NODELAY),
    "Orthanc": _orthanc,
}


def _peer(port: int) -> PeerSettings:
    return PeerSettings(name="pacs", ae_title=AE_TITLE, host="127.0.0.1", port=port)


def _call(port: int, method: str, path: str) -> bytes:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bytes(answer.read())


def _medians(runs: Sequence[Run]) -> dict[tuple[str, str], float]:
    rates = defaultdict(list)
    for run in runs:
        rates[run.peer, run.sender].append(run.rate)
    return {key: median(values) for key, values in rates.items()}


def _ratios(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """Return by peer the median rate of the node over that of each other sender."""
    rates = _medians(runs)
    ratios: dict[str, dict[str, float]] = defaultdict(dict)
    for (peer, sender), rate in rates.items():
        if sender != NODE:
            ratios[peer][sender] = round(rates[peer, NODE] / rate, 2)
    return ratios


def _line(run: Run) -> str:
    missing = "" if run.stored == run.images else f"  ({run.images - run.stored} not stored)"
    return f"{run.peer:<17} {run.sender:<11} {run.rate:7.1f} images/s{missing}"


def _print(report: Mapping[str, object], runs: Sequence[Run]) -> None:
    ratios = _ratios(runs)
    rows = [
        [
            peer,
            sender,
            f"{rate:.1f}",
            f"{min(r.rate for r in runs if (r.peer, r.sender) == (peer, sender)):.1f}",
            f"{ratios[peer][sender]:.2f}" if sender != NODE else "",
            str(sum(r.images - r.stored for r in runs if (r.peer, r.sender) == (peer, sender))),
        ]
        for (peer, sender), rate in sorted(_medians(runs).items())
    ]
    write(f"\n{json.dumps(report['hardware'])}\n")
    write(table(["peer", "sender", "images/s", "lowest", "node is x times", "not stored"], rows))


if __name__ == "__main__":
    main()
