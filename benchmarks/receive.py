"""Receive rate of the node against DCMTK's storescp, fed by the same storescu.

``python -m benchmarks.receive`` sends 512 x 512 CT images with 1, 4 and 8 senders to the node
(every image fsynced and in the ledger before its answer) and to storescp, as shipped and with
TCP_NODELAY, in turn, round after round, and prints the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from benchmarks.ct_series import write_series
from benchmarks.machine import (
    cpu_seconds,
    family,
    free_port,
    hardware,
    median,
    peak_mib,
    serving,
    table,
    write,
)

AE_TITLE = "DENOISE"
NODELAY = {"TCP_NODELAY": "1"}
SETTLING_SECONDS = 0.5
BUSY_LOOP = (
    "import torch; torch.set_num_threads(1)\n"
    "net = torch.nn.Conv2d(32, 32, 3, padding=1)\n"
    "image = torch.zeros(1, 32, 512, 512)\n"
    "while True: net(image)\n"
)
"""One thread of convolutions at full load, like a job on the processor."""

Server = Callable[[Path, int, int], AbstractContextManager["subprocess.Popen[bytes]"]]


@dataclass(frozen=True)
class Contestant:
    """A receiver, with the environment of it and its senders."""

    name: str
    serve: Server
    variables: Mapping[str, str]


@dataclass(frozen=True)
class Run:
    """Cost of sending all images once."""

    contestant: str
    senders: int
    images: int
    seconds: float
    mib_per_second: float
    receiver_cpu_seconds: float
    peak_mib: float


def main() -> None:
    """Run the benchmark."""
    options = _options()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="receive-") as folder:
        runs = _measure(options, Path(folder))
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
    parser = argparse.ArgumentParser(prog="python -m benchmarks.receive", description=__doc__)
    parser.add_argument("--senders", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--images", type=int, default=300, help="in one series")
    parser.add_argument("--total", type=int, default=600, help="most images in one run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=1, help="listen.processes of the node")
    parser.add_argument("--busy", action="store_true", help="with a job's load on one core")
    parser.add_argument("--only", nargs="+", help="contestants to run")
    parser.add_argument("--database", help="another ledger than SQLite")
    parser.add_argument("--folder", help="where to write; on the disk that is to be measured")
    parser.add_argument("--json", help="file for the figures")
    return parser.parse_args()


def _measure(options: argparse.Namespace, folder: Path) -> list[Run]:
    series = [
        write_series(folder / f"series{at}", options.images, seed=at)
        for at in range(max(options.senders))
    ]
    contestants = [
        item for item in _contestants(options) if item.name in (options.only or item.name)
    ]
    runs = []
    for turn in range(options.rounds):
        for senders in options.senders:
            count = min(options.images, options.total // senders)
            loads = [paths[:count] for paths in series[:senders]]
            for at in range(len(contestants)):
                contestant = contestants[(at + turn) % len(contestants)]
                runs.append(_run(contestant, loads, folder / f"run{len(runs)}"))
                write(_line(runs[-1]))
    return runs


def _contestants(options: argparse.Namespace) -> list[Contestant]:
    node = _node(options.processes, options.database)
    everyone = [
        Contestant("node", node, {}),
        Contestant("storescp", _storescp, {}),
        Contestant("node, storescu nodelay", node, NODELAY),
        Contestant("storescp nodelay", _storescp, NODELAY),
    ]
    if options.busy:
        everyone.insert(1, Contestant("node busy", _beside_a_job(node), {}))
    return everyone


def _node(processes: int, database: str | None) -> Server:
    @contextlib.contextmanager
    def serve(folder: Path, port: int, _senders: int) -> Iterator[subprocess.Popen[bytes]]:
        settings = {
            "ae_title": AE_TITLE,
            "listen": {"host": "127.0.0.1", "port": port, "processes": processes},
            "database": database or "sqlite:///var/ledger.db",
            "peers": [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}],
            "destinations": ["pacs"],
            "retention": {"disk_reserve_gib": 0},
        }
        folder.mkdir(parents=True)
        (folder / "node.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        command = [sys.executable, "-m", "dicom_node.cli", "receive"]
        with serving(command, port, folder, {}) as process:
            yield process

    return serve


def _beside_a_job(serve: Server) -> Server:
    @contextlib.contextmanager
    def busy(folder: Path, port: int, senders: int) -> Iterator[subprocess.Popen[bytes]]:
        job = subprocess.Popen([sys.executable, "-c", BUSY_LOOP], preexec_fn=_as_the_worker)
        try:
            with serve(folder, port, senders) as process:
                yield process
        finally:
            job.kill()
            job.wait()

    return busy


def _as_the_worker() -> None:
    os.nice(10)


@contextlib.contextmanager
def _storescp(folder: Path, port: int, senders: int) -> Iterator[subprocess.Popen[bytes]]:
    variables = NODELAY if folder.name.endswith("nodelay") else {}
    (folder / "stored").mkdir(parents=True)
    fork = ["--fork"] if senders > 1 else []
    command = ["storescp", *fork, "-aet", AE_TITLE, "-od", folder / "stored", str(port)]
    with serving(command, port, folder, variables) as process:
        yield process


def _run(contestant: Contestant, loads: Sequence[Sequence[Path]], folder: Path) -> Run:
    port = free_port()
    # The name tells storescp's environment: see _storescp.
    place = folder / contestant.name.replace(" ", "-")
    # Nothing is deleted before the end: ext4 is slow to reuse what has just been deleted.
    with contestant.serve(place, port, len(loads)) as server:
        _settle(server.pid)
        before = _cpu(server.pid)
        begin = time.perf_counter()
        _send(loads, port, contestant.variables)
        seconds = time.perf_counter() - begin
        used = _cpu(server.pid) - before
        peak = sum(map(peak_mib, family(server.pid)))
    sizes = sum(path.stat().st_size for load in loads for path in load)
    images = sum(map(len, loads))
    rate = sizes / 2**20 / seconds
    return Run(contestant.name, len(loads), images, seconds, rate, used, peak)


def _settle(pid: int) -> None:
    """Wait until all processes of a server have started and are idle."""
    os.sync()
    before = -1.0
    while (used := _cpu(pid)) > before:
        before = used
        time.sleep(SETTLING_SECONDS)


def _cpu(pid: int) -> float:
    return sum(map(cpu_seconds, family(pid)))


def _send(loads: Sequence[Sequence[Path]], port: int, variables: Mapping[str, str]) -> None:
    senders = [
        subprocess.Popen(
            ["storescu", "-xe", "-aet", f"SENDER{at}", "-aec", AE_TITLE, "127.0.0.1", str(port),
             *map(str, load)],
            env={**os.environ, **variables},
        )
        for at, load in enumerate(loads)
    ]  # fmt: skip
    codes = [sender.wait() for sender in senders]
    if any(codes):
        raise RuntimeError(f"storescu exited with {codes}.")


PAIRS = (
    ("node", "storescp"),
    ("node, storescu nodelay", "storescp nodelay"),
    ("node busy", "node"),
)
"""Receivers whose rates are divided: fed by the same storescu in the same environment."""


def _ratios(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """Return by number of senders the median ratio of rates over all rounds."""
    ratios: dict[str, dict[str, float]] = {}
    for senders in sorted({run.senders for run in runs}):
        rates: dict[str, list[float]] = {}
        for run in runs:
            if run.senders == senders:
                rates.setdefault(run.contestant, []).append(run.mib_per_second)
        ratios[str(senders)] = {
            f"{one} / {other}": median(
                [a / b for a, b in zip(rates[one], rates[other], strict=False)]
            )
            for one, other in PAIRS
            if one in rates and other in rates
        }
    return ratios


def _line(run: Run) -> str:
    return (
        f"{run.contestant:22} {run.senders} senders {run.images:4} images {run.seconds:6.2f} s"
        f" {run.images / run.seconds:6.0f}/s {run.mib_per_second:6.1f} MiB/s"
        f" {1000 * run.receiver_cpu_seconds / run.images:5.2f} ms CPU an image"
        f" {run.peak_mib:5.0f} MiB"
    )


def _print(report: Mapping[str, object], runs: Sequence[Run]) -> None:
    write()
    write(", ".join(f"{key} {value}" for key, value in hardware().items()))
    rows = []
    for senders in sorted({run.senders for run in runs}):
        for name in dict.fromkeys(run.contestant for run in runs):
            chosen = [run for run in runs if run.senders == senders and run.contestant == name]
            rows.append([
                str(senders), name, f"{median([run.images / run.seconds for run in chosen]):.0f}",
                f"{median([run.mib_per_second for run in chosen]):.0f}",
                f"{median([1000 * r.receiver_cpu_seconds / r.images for r in chosen]):.2f}",
                f"{max(run.peak_mib for run in chosen):.0f}",
            ])  # fmt: skip
    write(table(("senders", "receiver", "images/s", "MiB/s", "CPU ms/image", "peak MiB"), rows))
    write(json.dumps(report["ratios"], indent=1))


if __name__ == "__main__":
    main()
