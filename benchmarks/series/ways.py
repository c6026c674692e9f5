"""Ways of a series from folder to folder: the command, and its function in a warm process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import PeakMemory
from benchmarks.series.parts import REPORTED, calls, seconds_by_part, tracing


class TookTooLongError(Exception):
    """A program did not end in the time that it was given."""


WARM = Path(__file__).parent / "warm.py"


@dataclass(frozen=True)
class Checkout:
    """A source tree of the product, and its name in the table."""

    name: str
    root: Path


@dataclass(frozen=True)
class Work:
    """One measurement: version, series, model and device.

    Attributes:
        checkout: Version of the product.
        files: The series, all in one folder.
        model: Name of the model.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        max_seconds: Time after which the program is ended; None: no limit.
    """

    checkout: Checkout
    files: Sequence[Path]
    model: str
    device: str
    max_seconds: float | None = None


@dataclass(frozen=True)
class Run:
    """Cost of one series on one way.

    Attributes:
        way: ``command``, ``function`` or ``node``.
        checkout: Name of the checkout.
        model: Name of the model.
        slices: Number of slices.
        seconds: From the first to the last of what the way contains.
        parts: Seconds by part; parts that were not seen are left out.
        peak_mib: Peak resident memory by process.
        verdict: Verdict of the guard.
    """

    way: str
    checkout: str
    model: str
    slices: int
    seconds: float
    parts: Mapping[str, float]
    peak_mib: Mapping[str, float] = field(default_factory=dict)
    verdict: str = ""


def by_command(work: Work, folder: Path) -> Run:
    """Run ``dicom-node denoise`` in a new process: from its start to its end."""
    command: list[str | Path] = [
        sys.executable, "-m", "dicom_node.cli", "denoise", work.files[0].parent, folder / "out",
        "--model", work.model, "--device", work.device, "--guard", "flag", "--json",
    ]  # fmt: skip
    begin = time.time()
    text, peaks = _run(command, work, folder)
    end = time.time()
    (outcome,) = json.loads(text)
    found = calls(folder / "traces")
    parts = {**seconds_by_part(found), **reported(outcome["report"])}
    if found:
        parts["start"] = found[0].begin - begin
    return _finished("command", work, end - begin, parts, peaks, outcome["report"])


def by_function(work: Work, folder: Path) -> Run:
    """Call ``denoise_folder`` in a process that has denoised the same series before."""
    command: list[str | Path] = [
        sys.executable, "-P", WARM, work.files[0].parent, folder / "out", work.model, work.device,
    ]  # fmt: skip
    text, peaks = _run(command, work, folder)
    answer = json.loads(text)
    if answer["report"] is None:
        raise RuntimeError(f"The series was not denoised: {answer['error']}")
    found = calls(folder / "traces", since=answer["begin"])
    parts = {**seconds_by_part(found), **reported(answer["report"])}
    seconds = answer["end"] - answer["begin"]
    return _finished("function", work, seconds, parts, peaks, answer["report"])


def _run(
    command: Sequence[str | Path], work: Work, folder: Path
) -> tuple[str, Mapping[str, float]]:
    """Run a program of the checkout; return its output and the peak memory of its processes."""
    environment = tracing(folder / "traces", work.checkout.root)
    words = [str(word) for word in command]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            words, cwd=folder, env=environ_with(environment), stdout=subprocess.PIPE, stderr=log
        )
        with PeakMemory(process.pid, process_name) as memory:
            output = _output(process, work.max_seconds)
    if process.returncode:
        text = (folder / "log").read_text(errors="replace")
        raise RuntimeError(f"{' '.join(words)} exited with {process.returncode}:\n{text}")
    return output.decode(), memory.mib


def _output(process: subprocess.Popen[bytes], max_seconds: float | None) -> bytes:
    try:
        output, _ = process.communicate(timeout=max_seconds)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise TookTooLongError from error
    return output


def environ_with(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of this process without its settings of the product."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("DICOM_NODE_")}
    return {**own, **variables}


def process_name(words: Sequence[str]) -> str:
    """Name a process of the product by its subcommand."""
    if "dicom_node.cli" in words:
        return words[words.index("dicom_node.cli") + 1]
    return "function" if str(WARM) in words else "helper"


def reported(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the parts of which a report states the seconds."""
    denoise, guard = REPORTED
    return {denoise: report["seconds"], guard: report["guard_seconds"]}


def _finished(
    way: str,
    work: Work,
    seconds: float,
    parts: Mapping[str, float],
    peaks: Mapping[str, float],
    report: Mapping[str, Any],
) -> Run:
    verdict = str(report["verdict"])
    count = len(work.files)
    return Run(way, work.checkout.name, work.model, count, seconds, parts, peaks, verdict)
