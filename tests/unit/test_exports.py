"""Packages export what they declare, and light ones do not load torch."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.product import PRODUCT_VERSION

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("man_core", "dicom_node", "training")


def front_doors() -> list[str]:
    """Every package whose ``__init__`` offers names."""
    files = (p for package in PACKAGES for p in (REPOSITORY / package).rglob("__init__.py"))
    return sorted(
        ".".join(path.relative_to(REPOSITORY).parent.parts)
        for path in files
        if "__all__" in path.read_text(encoding="utf-8") or offered(path)
    )


def offered(path: Path) -> set[str]:
    """Public names that an ``__init__`` defines, or imports from its own package."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    lazily = [n for node in module.body if isinstance(node, ast.If) for n in node.body]
    return {n for node in (*module.body, *lazily) for n in names(node) if not n.startswith("_")}


def names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        ours = node.level or str(node.module).split(".")[0] in PACKAGES
        return [alias.asname or alias.name for alias in node.names] if ours else []
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.name]
    if isinstance(node, ast.AnnAssign):
        return [node.target.id] if isinstance(node.target, ast.Name) else []
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def place(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, each by the alphabet."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_the_front_doors_are_found() -> None:
    assert {"man_core", "man_core.guard", "dicom_node.settings"} <= set(front_doors())


@pytest.mark.parametrize("package", front_doors())
def test_every_exported_name_can_be_imported(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__
    assert [name for name in module.__all__ if getattr(module, name, None) is None] == []


@pytest.mark.parametrize("package", front_doors())
def test_exports_are_in_order_and_said_once(package: str) -> None:
    exported = list(importlib.import_module(package).__all__)
    assert exported == sorted(set(exported), key=place)


@pytest.mark.parametrize("package", front_doors())
def test_exports_are_what_the_front_door_holds(package: str) -> None:
    exported = set(importlib.import_module(package).__all__)
    assert exported == offered(REPOSITORY.joinpath(*package.split("."), "__init__.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_the_types_of_a_package_are_for_its_users_too(package: str) -> None:
    assert (REPOSITORY / package / "py.typed").is_file()


WITHOUT_TORCH = (
    "man_core",
    "man_core.quality",
    "man_core.noise",
    "dicom_node.receiving.receiver",
    "dicom_node.sending.calls",
    "dicom_node.ledger.jobs",
    "dicom_node.store.inbox",
    "dicom_node.ct.read",
    "dicom_node.ct.derived.image",
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


@pytest.mark.parametrize(
    ("name", "package"), [("dicom-node", "dicom_node.cli"), ("man-train", "training.cli")]
)
def test_a_program_prints_its_version_without_torch(name: str, package: str) -> None:
    hidden = f"import sys; sys.modules['torch'] = None; sys.argv = [{name!r}, '--version']"
    found = run(f"{hidden}; from {package} import main; main()")
    assert (found.returncode, found.stdout) == (0, f"{name} {PRODUCT_VERSION}\n"), found.stderr


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True, text=True, check=False, env=environment, timeout=120,
    )  # fmt: skip
