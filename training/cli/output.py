"""What a command says while it works and when it is done."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(stderr=True)

SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def counted(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar with the time left on a terminal; a plain line now and then elsewhere."""
    if not console.is_terminal:
        yield _in_lines(what)
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _in_lines(what: str) -> Callable[[int, int | None], None]:
    shown = time.monotonic()

    def show(done: int, total: int | None) -> None:
        nonlocal shown
        if time.monotonic() - shown >= SECONDS_BETWEEN_LINES:
            shown = time.monotonic()
            of_all = f" of {total}" if total else ""
            console.print(f"{done}{of_all} {what}", markup=False)

    return show


def say(as_json: bool, words: str, facts: dict[str, object]) -> None:
    """One line of words, or the facts as one JSON value."""
    typer.echo(json.dumps(facts) if as_json else words)
