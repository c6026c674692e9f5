"""Every command has a help text and is documented in the README or the pages it links."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from dicom_node.cli.entry import GROUPS, application
from training.cli.entry import app as man_train

REPOSITORY = Path(__file__).parents[2]
Command = TyperCommand | TyperGroup
PROGRAMS = {"dicom-node": application(), "man-train": man_train}


def commands() -> Iterator[tuple[str, Command]]:
    """Every visible command under the words that call it."""
    for program, app in PROGRAMS.items():
        yield from below(program, typer.main.get_command(app))


def below(words: str, command: Command) -> Iterator[tuple[str, Command]]:
    if isinstance(command, TyperGroup):
        for name, child in command.commands.items():
            assert isinstance(child, Command)
            yield from below(f"{words} {name}", child)
    elif not command.hidden:
        yield words, command


@pytest.mark.parametrize(("group", "names"), GROUPS.items())
def test_a_command_alone_is_the_command_among_all(group: str, names: tuple[str, ...]) -> None:
    """Only the module of the command that was given is loaded."""
    alone = typer.main.get_command(application(names))
    assert isinstance(alone, TyperGroup)
    assert tuple(alone.commands) == names
    assert {name: module_of(one) for name, one in alone.commands.items()} == dict.fromkeys(
        names, f"dicom_node.cli.{group}"
    )


def module_of(command: object) -> str:
    """Name of the module that implements a command, or the first of its group."""
    while isinstance(command, TyperGroup):
        command = next(iter(command.commands.values()))
    assert isinstance(command, TyperCommand)
    return str(getattr(command.callback, "__module__", ""))


def pages() -> str:
    texts = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
    return "\n".join(page.read_text(encoding="utf-8") for page in texts)


@pytest.mark.parametrize(("words", "command"), [pytest.param(*c, id=c[0]) for c in commands()])
def test_a_command_says_what_it_does(words: str, command: Command) -> None:
    assert command.help
    assert command.help.strip()[0].isupper()
    unexplained = [
        parameter.name
        for parameter in command.params
        if isinstance(parameter, TyperOption) and not parameter.hidden and not parameter.help
    ]
    assert unexplained == []


@pytest.mark.parametrize("words", [words for words, _ in commands()])
def test_a_command_is_documented(words: str) -> None:
    *program, name = words.split()
    lines = [line for line in pages().splitlines() if " ".join(program) in line]
    assert any(f" {name}" in line or f"`{name}" in line for line in lines), f"say what {words} does"


def test_every_command_in_the_readme_exists() -> None:
    groups = {"dicom-node jobs", "dicom-node rules", "dicom-node unknown", "man-train import"}
    known = {words for words, _ in commands()} | groups
    mentioned = [
        " ".join(call.split()[:2])
        for line in pages().splitlines()
        for call in code_of(line)
        if call.split()[0] in PROGRAMS and len(call.split()) > 1
    ]
    assert mentioned
    assert sorted({call for call in mentioned if not call.startswith(tuple(known))}) == []


def code_of(line: str) -> list[str]:
    """The pieces between backticks that are calls, and lines of a code block."""
    pieces = line.split("`")[1::2] if "`" in line else [line.strip()]
    return [piece.strip().removeprefix(".venv/bin/") for piece in pieces if piece.strip()]


def calls_of(page: str) -> list[list[str]]:
    """The words of each call of ours in the code blocks of a page, `torchrun` left out."""
    blocks = (REPOSITORY / page).read_text(encoding="utf-8").split("```")[1::2]
    lines = [line.split() for block in blocks for line in block.splitlines()]
    ours = [["man-train", *w[w.index("training.cli") + 1 :]] for w in lines if "training.cli" in w]
    return ours + [words for words in lines if words and words[0] in PROGRAMS]


@pytest.mark.parametrize("words", calls_of("docs/retraining.md"), ids=" ".join)
def test_every_line_of_retraining_is_understood_as_it_stands(words: list[str]) -> None:
    command: Any = typer.main.get_command(PROGRAMS[words[0]])
    name, rest = words[0], words[1:]
    while isinstance(command, TyperGroup):  # a group of commands has commands of its own
        with command.make_context(name, [*rest]) as context:
            name, command, rest = command.resolve_command(context, rest)
    assert command.make_context(name, rest).params
