"""Size limits and conventions of the code, measured on the tracked files."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from dicom_node.product import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    PRODUCT_VERSION,
)

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("man_core", "dicom_node", "training")

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40
MEDIAN_FUNCTION_LINES = 10
MAX_TRACKED_BYTES = 40 << 20

MACHINE_PATH = re.compile(
    r"(?<![\w.~-])/(?:work|farm|root|home/\w+|opt/wheels|tmp/\w+)/|(?:index)-url|(?:find)-links"
    r"|//(?:\w+\.)*(?:pypi|pythonhosted|download\.pytorch)\.org"
)
"""A path of somebody's machine, or a package registry that a build should not be tied to."""

LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
"""The target of a Markdown link to a file."""

TEXT_SUFFIXES = {
    "", ".cfg", ".html", ".ini", ".json", ".lua", ".mako", ".md", ".py", ".sh", ".toml", ".txt",
    ".yaml", ".yml",
}  # fmt: skip

QUESTIONS = {"What", "How", "Who", "Where", "Which", "Why", "When", "Whom", "Whose", "Whether"}
"""First words that no docstring has; of a predicate `Whether` is right."""

SUPERLATIVE = re.compile(r"_?(?:MOST|FEWEST|LONGEST|SHORTEST|LARGEST|SMALLEST|LEAST)_")
"""Beginning of a constant that should begin with MAX_ or MIN_."""

ERRORS_FOR_PERSONS = {
    "ConfigurationError", "DeviceFault", "ImplausibleResult", "IncompleteSeries", "InputError",
    "ModelError", "ModelUnavailable", "NodeError", "NotForUs", "PeerError", "RecipeError",
    "StorageError", "TrainingError", "UnreadableFile",
}  # fmt: skip
"""Errors whose message a person reads as it stands."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tracked() -> tuple[Path, ...]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    return tuple(path for name in listed.split("\0") if (path := REPOSITORY / name).is_file())


def python_files(*folders: str) -> list[Path]:
    return [p for p in tracked() if p.suffix == ".py" and inside(p, folders)]


def inside(path: Path, folders: tuple[str, ...]) -> bool:
    return path.relative_to(REPOSITORY).parts[0] in folders


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Function):
            yield node


def length(function: Function) -> int:
    """Lines from `def` to the last statement, the docstring not counted."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def where(path: Path, line: int, what: str) -> str:
    return f"{path.relative_to(REPOSITORY)}:{line} {what}"


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def test_no_file_is_long() -> None:
    lines = {
        name_of(p): len(p.read_text(encoding="utf-8").splitlines()) for p in python_files(*PACKAGES)
    }
    assert {name: n for name, n in lines.items() if n > MAX_FILE_LINES} == {}


def test_no_function_is_long() -> None:
    long = [
        where(path, function.lineno, f"{function.name}: {length(function)} lines")
        for path in python_files(*PACKAGES, "benchmarks")
        for function in functions(path)
        if length(function) > MAX_FUNCTION_LINES
    ]
    assert long == []


@pytest.mark.parametrize("package", PACKAGES)
def test_most_functions_are_short(package: str) -> None:
    lengths = [length(f) for path in python_files(package) for f in functions(path)]
    assert statistics.median(lengths) < MEDIAN_FUNCTION_LINES


def test_no_file_is_called_utils() -> None:
    names = {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}
    assert [name_of(p) for p in tracked() if p.name in names] == []


def test_no_code_looks_beside_the_checkout() -> None:
    """Data that is not the product's comes in by an environment variable."""
    beside = re.compile(r"""shared["']? */ *["']?data""")
    every = (p for p in tracked() if p.suffix == ".py" and p != Path(__file__))
    assert [name_of(p) for p in every if beside.search(p.read_text(encoding="utf-8"))] == []


def test_nothing_prints() -> None:
    calls = [
        where(path, node.lineno, "print")
        for path in python_files(*PACKAGES)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert calls == []


def test_nothing_public_takes_or_returns_anything() -> None:
    """An array of any type or a dict for JSON says enough; `Any` alone does not."""
    loose = [
        where(path, function.lineno, function.name)
        for path in python_files("man_core", "dicom_node")
        for function in public_functions(path)
        if any(isinstance(a, ast.Name) and a.id == "Any" for a in annotations(function))
    ]
    assert loose == []


def public_functions(path: Path) -> Iterator[Function]:
    module = ast.parse(path.read_text(encoding="utf-8"))
    for node in module.body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        hidden = isinstance(node, ast.ClassDef) and node.name.startswith("_")
        for member in members:
            if isinstance(member, Function) and not (hidden or member.name.startswith("_")):
                yield member


def annotations(function: Function) -> list[ast.expr]:
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    return [a for a in (*(argument.annotation for argument in every), function.returns) if a]


def test_every_module_and_public_name_says_what_it_is() -> None:
    silent = [
        where(path, getattr(node, "lineno", 1), getattr(node, "name", "module"))
        for path in python_files("man_core", "dicom_node")
        if path.name != "__init__.py" and "versions" not in path.parts
        for node in described(path)
        if ast.get_docstring(node) is None
    ]
    assert silent == []


def described(path: Path) -> list[ast.Module | ast.ClassDef | Function]:
    module = ast.parse(path.read_text(encoding="utf-8"))
    named = [n for n in module.body if isinstance(n, ast.ClassDef | Function)]
    return [module, *(n for n in named if not n.name.startswith("_"))]


def modules() -> Iterator[tuple[Path, ast.Module]]:
    """Every file of the three packages, parsed."""
    for path in python_files(*PACKAGES):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def docstrings(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.Constant]]:
    """Every string that stands alone, with what it describes."""
    for node in ast.walk(tree):
        body, before = getattr(node, "body", None), node
        for statement in body if isinstance(body, list) else []:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                yield before, statement.value
            before = statement


def is_predicate(node: ast.AST) -> bool:
    said = node.returns if isinstance(node, Function) else getattr(node, "annotation", None)
    return said is not None and "bool" in ast.unparse(said)


def test_a_docstring_begins_with_a_noun_or_an_imperative() -> None:
    questions = [
        where(path, text.lineno, text.value.splitlines()[0])
        for path, tree in modules()
        for owner, text in docstrings(tree)
        if isinstance(text.value, str)
        and (first := re.match(r"\w+", text.value)) is not None
        and first[0] in QUESTIONS
        and not (first[0] == "Whether" and is_predicate(owner))
    ]
    assert questions == []


def test_limits_are_called_max_and_min() -> None:
    superlatives = [
        where(path, node.lineno, node.id)
        for path, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Name)
        and isinstance(node.ctx, ast.Store)
        and SUPERLATIVE.match(node.id)
    ]
    assert superlatives == []


def test_a_message_to_a_person_is_a_sentence() -> None:
    """It begins with a capital, or with a name as it is written, and ends with a full stop."""
    fragments = [
        where(path, node.lineno, ast.unparse(node.exc.args[0]))
        for path, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args
        if isinstance(node.exc.func, ast.Name) and node.exc.func.id in ERRORS_FOR_PERSONS
        if not is_sentence(node.exc.args[0])
    ]
    assert fragments == []


def is_sentence(message: ast.expr) -> bool:
    """Whether it is one as far as its literal ends show; what is filled in counts as right."""
    parts = message.values if isinstance(message, ast.JoinedStr) else [message]
    first, last = literal(parts[0]), literal(parts[-1])
    begins = first is None or not first[:1].islower() or bool(set("._-`") & set(first.split()[0]))
    return begins and (last is None or last.rstrip().endswith("."))


def literal(part: ast.expr) -> str | None:
    return part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else None


def test_no_path_of_a_machine_is_written_down() -> None:
    found = [
        where(path, number, line.strip()[:80])
        for path in tracked()
        if path.suffix in TEXT_SUFFIXES and path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


def test_no_large_file_is_tracked() -> None:
    large = {name_of(p): p.stat().st_size for p in tracked()}
    assert {name: size for name, size in large.items() if size > MAX_TRACKED_BYTES} == {}


def test_the_version_is_one_and_in_the_changelog() -> None:
    pyproject = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    source = pyproject["tool"]["hatch"]["version"]
    text = (REPOSITORY / source["path"]).read_text(encoding="utf-8")
    found = re.findall(source["pattern"], text, re.MULTILINE)
    assert ("version" in pyproject["project"], found) == (False, [PRODUCT_VERSION])
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(PRODUCT_VERSION)}\]", changelog, re.MULTILINE)


def test_every_release_in_the_changelog_has_its_date() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", changelog, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    dated = re.compile(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}")
    assert [heading for heading in headings[1:] if not dated.fullmatch(heading)] == []


def test_the_files_that_contributing_names_exist() -> None:
    """But those of its example; a path within a package may be written without it."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = {n for n in re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", text) if "median" not in n}
    homes = (REPOSITORY, REPOSITORY / "dicom_node")
    assert named
    assert sorted(n for n in named if not any((home / n).is_file() for home in homes)) == []


def test_every_page_stands_in_the_overview() -> None:
    overview = (REPOSITORY / "docs" / "README.md").read_text(encoding="utf-8")
    pages = [p for p in (REPOSITORY / "docs").glob("*.md") if p.name != "README.md"]
    records = (REPOSITORY / "docs" / "decisions").glob("*.md")
    linked = {target.split("#")[0] for target in LINK.findall(overview)}
    relative = {str(page.relative_to(REPOSITORY / "docs")) for page in (*pages, *records)}
    assert relative - linked == set()


def test_the_conformance_statement_names_this_version() -> None:
    statement = (REPOSITORY / "docs" / "conformance.md").read_text(encoding="utf-8")
    assert IMPLEMENTATION_VERSION_NAME in statement
    assert IMPLEMENTATION_CLASS_UID in statement
    assert len(IMPLEMENTATION_VERSION_NAME) <= 16


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        where(page, number, target)
        for page in tracked()
        if page.suffix == ".md"
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
        for target in LINK.findall(line)
        if not (page.parent / target).exists()
    ]
    assert broken == []
