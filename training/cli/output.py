"""Output of the commands: progress on standard error, results on standard output."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(stderr=True)

LINE_INTERVAL_SECONDS = 30.0

_Update = Callable[[float, float | None, str], None]
"""Called with (done, total, progress in words)."""


@contextmanager
def counted(noun: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show how many of something are done; yield a callback for (done, total)."""
    with _progress(noun) as update:
        yield lambda done, total: update(done, total, f"{done} of {total}" if total else f"{done}")


@contextmanager
def fit_progress(title: str) -> Iterator[Callable[[int, float, dict[str, float]], None]]:
    """Show the progress of a fit; yield a callback for (step, progress 0 to 1, loss terms)."""
    with _progress(title) as update:
        yield lambda step, progress, scalars: update(
            progress, 1.0, f"step {step}, loss {scalars['loss']:.4g}"
        )


@contextmanager
def _progress(title: str) -> Iterator[_Update]:
    """Show a bar with the time left on a terminal, elsewhere a line every half minute."""
    if not console.is_terminal:
        yield _in_lines(title)
        return
    words = TextColumn("{task.fields[words]}")
    columns = (TextColumn("{task.description}"), BarColumn(), words, TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=None, words="")
        yield lambda done, total, words: bar.update(task, completed=done, total=total, words=words)


def _in_lines(title: str) -> _Update:
    began = shown = time.monotonic()
    first: float | None = None  # a resumed fit does not begin at 0

    def show(done: float, total: float | None, words: str) -> None:
        nonlocal shown, first
        first = done if first is None else first
        now = time.monotonic()
        if now - shown < LINE_INTERVAL_SECONDS:
            return
        shown = now
        left = ""
        if total and done > first:
            minutes = (now - began) * (total - done) / (done - first) / 60
            left = f", {minutes:.1f} minutes left"
        console.print(f"{title}: {words}{left}", markup=False)

    return show


def write_result(as_json: bool, sentence: str, facts: dict[str, object]) -> None:
    """Print a sentence, or the facts as one JSON value."""
    typer.echo(json.dumps(facts) if as_json else sentence)
