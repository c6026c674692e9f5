"""Common parts of the benchmarks: hardware, processes and their memory, tables."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

REPOSITORY = Path(__file__).parents[1]
START_SECONDS = 600.0
STOP_SECONDS = 30.0
WATCH_SECONDS = 0.1


def hardware() -> dict[str, str]:
    """Describe hardware and versions that results depend on."""
    return {
        "cpu": _cpu_name(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "dcmtk": _dcmtk_version(),
        "gpu": _gpus(),
        "load": " ".join(f"{value:.2f}" for value in os.getloadavg()),
    }


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _gpus() -> str:
    """Return name and driver version of the GPUs."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "none"
    return "; ".join(found.stdout.split("\n")).strip("; ") or "none"


def _dcmtk_version() -> str:
    if shutil.which("storescu") is None:
        return "not installed"
    text = subprocess.run(["storescu", "--version"], capture_output=True, text=True, check=False)
    if "dcmtk" not in text.stdout:  # pynetdicom has a program of the same name
        return "not installed"
    return text.stdout.split("storescu ")[1].split(" ")[0]


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


class PeakMemory(threading.Thread):
    """Peak resident memory of a process and all of its descendants, read regularly while they run.

    Use it as a context manager around their work. Linux keeps the peak of each process, so that
    only the growth in the last ``WATCH_SECONDS`` of a process can be missed.

    Args:
        pid: The process.
        name: Names a process by the words of its command line.
    """

    def __init__(self, pid: int, name: Callable[[Sequence[str]], str]) -> None:
        super().__init__(daemon=True)
        self.mib: dict[str, float] = {}
        self._pid, self._name, self._ended = pid, name, threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        """Read the peaks until the block ends."""
        while True:
            for pid in family(self._pid):
                if (peak := peak_mib(pid)) and (words := _command_line(pid)):
                    name = self._name(words)
                    self.mib[name] = max(peak, self.mib.get(name, 0.0))
            if self._ended.wait(WATCH_SECONDS):
                return


def _command_line(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return []


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


def at_least(smallest: int) -> Callable[[str], int]:
    """Return the type of an option that is a whole number with a lower limit."""

    def number(text: str) -> int:
        if (value := int(text)) < smallest:
            raise argparse.ArgumentTypeError(f"must be at least {smallest}, got {value}")
        return value

    return number


def existing_folder(text: str) -> Path:
    """Return the folder that an option names.

    Raises:
        argparse.ArgumentTypeError: It does not exist.
    """
    folder = Path(text)
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}; make it, or name another")
    return folder


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
