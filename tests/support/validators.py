"""Complaints of dciodvfy and dcentvfy, taken from their output: exit codes do not tell."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from support.peers import require_program


def new_complaints(derived: Sequence[Path], source: Sequence[Path]) -> list[str]:
    """Errors of the derived files that the source files do not have."""
    known = {_kind(line) for path in source for line in _errors("dciodvfy", path)}
    found = {_kind(line) for path in derived for line in _errors("dciodvfy", path)}
    together = _errors("dcentvfy", *source, *derived)
    return sorted(found - known) + together


def _errors(program: str, *paths: Path) -> list[str]:
    done = subprocess.run(
        [require_program(program), *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def _kind(line: str) -> str:
    """A complaint without the value it was found with."""
    return line.split(" = ")[0]
