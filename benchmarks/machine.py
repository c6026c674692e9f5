"""Common parts of the benchmarks: hardware, CT series to send, processes, tables."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from dicom_node.ct.files import file_meta_for, write_file
from dicom_node.ct.pixels import Encoding
from dicom_node.ct.simulated_scan import Scan, scan_datasets
from man_core import Volume

REPOSITORY = Path(__file__).parents[1]
START_SECONDS = 30.0
STOP_SECONDS = 30.0


def hardware() -> dict[str, str]:
    """Describe hardware and versions that results depend on."""
    return {
        "cpu": _cpu_name(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "dcmtk": _dcmtk_version(),
        "load": " ".join(f"{value:.2f}" for value in os.getloadavg()),
    }


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _dcmtk_version() -> str:
    if shutil.which("storescu") is None:
        return "not installed"
    text = subprocess.run(["storescu", "--version"], capture_output=True, text=True, check=False)
    if "dcmtk" not in text.stdout:  # pynetdicom has a program of the same name
        return "not installed"
    return text.stdout.split("storescu ")[1].split(" ")[0]


def write_series(folder: Path, images: int, *, seed: int, size: int = 512) -> list[Path]:
    """Write a CT series of noise with 16 bits per pixel; all images differ."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed)
    slices = noise.normal(0.0, 30.0, (1, size, size)).astype(np.float32)
    scan = Scan(
        patient_name="BENCHMARK", patient_id="BENCHMARK", study=f"benchmark {seed}",
        description="Benchmark", series_number=1, encoding=Encoding(1.0, -1024.0, 12, False, None),
    )  # fmt: skip
    volume = Volume(np.repeat(slices, images, axis=0), (1.0, 0.7, 0.7), np.eye(4))
    paths = []
    for at, dataset in enumerate(scan_datasets(volume, scan), 1):
        pixels = np.frombuffer(dataset.PixelData, np.uint16)
        dataset.PixelData = np.roll(pixels, 977 * at).tobytes()
        dataset.file_meta = file_meta_for(dataset)
        paths.append(folder / f"{at:04d}.dcm")
        write_file(dataset, paths[-1])
    return paths


def free_port() -> int:
    """Return an unused TCP port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(
    command: Sequence[str | Path], port: int, folder: Path, variables: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server process that listens on a port; terminate it at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [str(word) for word in command], cwd=folder, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, env={**os.environ, "PYTHONPATH": str(REPOSITORY), **variables},
        )  # fmt: skip
        try:
            _wait_for(port, process, folder / "server.log")
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"The server does not listen:\n{log.read_text(errors='replace')}")


def family(pid: int) -> list[int]:
    """Return the ids of a process and all of its descendants."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        born = [child for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [pid, *(number for child in born for number in family(int(child)))]


def peak_mib(pid: int) -> float:
    """Return the peak resident memory of a process, MiB."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0.0


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and of the children it has waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / float(os.sysconf("SC_CLK_TCK"))


def median(values: Sequence[float]) -> float:
    """Return the median; NaN without values."""
    return statistics.median(values) if values else float("nan")


def write(text: str = "") -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format columns as plain text."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
