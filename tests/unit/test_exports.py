"""Front doors hold what they promise, and what must be light does not load torch."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FRONT_DOORS = ("man_core", "man_core.quality")


@pytest.mark.parametrize("package", FRONT_DOORS)
def test_every_exported_name_can_be_imported(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__
    assert [name for name in module.__all__ if getattr(module, name, None) is None] == []


@pytest.mark.parametrize("package", FRONT_DOORS)
def test_exports_are_in_order_and_said_once(package: str) -> None:
    names = list(importlib.import_module(package).__all__)
    assert sorted(set(names)) == sorted(names)


WITHOUT_TORCH = (
    "man_core",
    "man_core.quality",
    "man_core.noise",
    "dicom_node.receiving.receiver",
    "dicom_node.sending.calls",
    "dicom_node.ledger.jobs",
    "dicom_node.store.inbox",
    "dicom_node.ct.read",
    "dicom_node.ct.derive",
    "dicom_node.cli",
)
"""What a process may import that must start fast and stay small."""


def test_torch_is_not_loaded_where_nothing_is_denoised() -> None:
    program = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    assert "torch" not in sys.modules, f"{name} loads torch"
import man_core
man_core.list_models()
assert "torch" not in sys.modules, "the list of models loads torch"
"""
    found = run(program, *WITHOUT_TORCH)
    assert found.returncode == 0, found.stderr.strip().splitlines()[-1:]


def test_help_is_there_without_torch() -> None:
    hidden = "import sys; sys.modules['torch'] = None; sys.argv = ['dicom-node', '--help']"
    found = run(f"{hidden}; from dicom_node.cli import main; main()")
    assert (found.returncode, "denoise" in found.stdout) == (0, True), found.stderr


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True, text=True, check=False, env=environment, timeout=120,
    )  # fmt: skip
