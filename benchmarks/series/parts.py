"""Parts of a series' way, and the time that each took in all processes of a program."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TRACING = Path(__file__).parent / "tracing"
"""Folder of the module that Python imports at its start."""

FUNCTIONS: Mapping[str, Mapping[str, str]] = {
    "dicom_node.ct.folder": {"scan_folder": "scan"},
    "dicom_node.ct.read": {"read_series": "read", "open_series": "read"},
    "dicom_node.ct.stack": {"CtStack.read": "read"},
    "dicom_node.ct.image_file": {"read_slice": "read"},
    "man_core.noise": {
        "estimate_noise_and_texture": "noise",
        "NoiseSample.add": "noise",
        "NoiseSample.estimate": "noise",
    },
    "dicom_node.ct.derived.image": {"derive_image": "encode"},
    "dicom_node.ct.files": {"write_file": "write"},
}
"""Traced functions by module and name. A version that lacks one leaves its part empty."""

REPORTED = ("denoise", "guard")
"""Parts of which the product's own report states the seconds. The guard's contain the noise
estimates."""

PARTS = ("start", "scan", "read", "noise", *REPORTED, "encode", "write", "wait", "deliver")
"""All parts in order. They overlap where a program works in several threads or processes; their sum
is then more than the whole."""


@dataclass(frozen=True)
class Call:
    """One call of a traced function; times in seconds since 1970."""

    part: str
    begin: float
    end: float
    processor: float


def tracing(folder: Path, checkout: Path) -> dict[str, str]:
    """Return the environment of a program of a checkout whose processes are traced.

    Args:
        folder: Created; receives the traces.
        checkout: Root of the program's source tree.
    """
    folder.mkdir(parents=True)
    return {
        "PYTHONPATH": f"{TRACING}:{checkout}:{os.environ.get('PYTHONPATH', '')}",
        "BENCHMARK_TRACE": json.dumps({"folder": str(folder), "functions": FUNCTIONS}),
    }


def calls(folder: Path, since: float = 0.0) -> list[Call]:
    """Read the traces of all processes, in order of their beginnings.

    Args:
        folder: Folder of the traces.
        since: Leave out earlier calls, seconds since 1970.
    """
    lines = [line.split() for file in folder.glob("*.trace") for line in _lines(file)]
    found = [Call(part, *map(float, times)) for part, *times in lines]
    return sorted((call for call in found if call.begin >= since), key=lambda call: call.begin)


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def seconds_by_part(found: Sequence[Call]) -> dict[str, float]:
    """Return for each traced part the time in which at least one call was under way."""
    parts = dict.fromkeys(call.part for call in found)
    return {part: covered(call for call in found if call.part == part) for part in parts}


def covered(ordered: Iterable[Call]) -> float:
    """Return the length of the union of the calls' times."""
    seconds, until = 0.0, 0.0
    for call in ordered:
        seconds += max(0.0, call.end - max(call.begin, until))
        until = max(until, call.end)
    return seconds
