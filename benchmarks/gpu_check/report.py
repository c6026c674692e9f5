"""The result as JSON for programs and as a table in Markdown for people."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_check.part import Figure, Outcome
from benchmarks.gpu_check.targets import Verdict
from benchmarks.machine import REPOSITORY, hardware
from man_core import find_model

FORMAT = 1
"""Version of the JSON's layout."""


def facts(device: torch.device, preset: str) -> dict[str, Any]:
    """Return everything that figures depend on."""
    card, _ = find_model("man")
    return {
        "format": FORMAT,
        "preset": preset,
        "device": str(device),
        "device_name": device_name(device),
        "hardware": hardware(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "commit": _commit(),
        "weights_sha256": card.weights_sha256,
    }


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _commit() -> str:
    """Return the commit of the checkout, with a plus sign where files differ from it."""
    git = ["git", "-C", str(REPOSITORY)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def write_json(
    path: Path, about: dict[str, Any], outcomes: Sequence[Outcome], verdicts: Sequence[Verdict]
) -> None:
    """Write everything as one JSON document."""
    document = {
        **about,
        "parts": [asdict(outcome) for outcome in outcomes],
        "targets": [asdict(verdict) for verdict in verdicts],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def markdown(
    about: dict[str, Any], outcomes: Sequence[Outcome], verdicts: Sequence[Verdict]
) -> str:
    """Return facts, bars and figures as tables in Markdown."""
    return "\n".join((*_facts(about), "", *_bars(verdicts), "", *_figures(outcomes))) + "\n"


def _facts(about: dict[str, Any]) -> Iterator[str]:
    machine = about["hardware"]
    yield (
        f"{about['device_name']} (driver: {machine['gpu']}), {machine['cores']} cores of"
        f" {machine['cpu']}, {machine['memory']}, Python {about['python']},"
        f" torch {about['torch']}, CUDA {about['cuda']}, load {machine['load']};"
        f" commit {about['commit']}, weights {about['weights_sha256'][:8]},"
        f" preset {about['preset']}."
    )


def _bars(verdicts: Sequence[Verdict]) -> Iterator[str]:
    yield "| bar | measured | verdict |"
    yield "|---|---|---|"
    for one in verdicts:
        measured = ", ".join(f"{name} {_number(value)}" for name, value in one.measured.items())
        reason = f": {one.reason}" if one.reason else ""
        yield f"| {one.target} | {measured or '–'} | {one.verdict}{reason} |"


def _figures(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield "| part | figure | value | verdict | remark |"
    yield "|---|---|---|---|---|"
    for outcome in outcomes:
        state = f"{outcome.state}{f': {outcome.reason}' if outcome.reason else ''}"
        spent = f"{outcome.seconds:.1f} of {outcome.budget_seconds:.0f} s"
        yield f"| **{outcome.name}** | {spent} | | {state} | |"
        for figure in outcome.figures:
            cells = (outcome.name, figure.name, _value(figure), _word(figure), figure.note)
            yield f"| {' | '.join(cells)} |"


def _value(figure: Figure) -> str:
    if figure.value is None:
        return "–"
    shown = figure.value if isinstance(figure.value, str) else _number(figure.value)
    return f"{shown} {figure.unit}".strip()


def _number(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _word(figure: Figure) -> str:
    return "" if figure.passed is None else "ok" if figure.passed else "FAILED"
