"""How a fit shows itself: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from training.fit.loop import OnStep

SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def shown(title: str, console: Console) -> Iterator[OnStep]:
    """A callback for ``Fit.go`` that shows step, loss and time left.

    Args:
        title: What is being fitted.
        console: Where to; decides by itself whether it is a terminal.
    """
    if not console.is_terminal:
        yield _lines(title)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("step {task.fields[step]}  loss {task.fields[loss]:.4g}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as bar:
        shown_task = bar.add_task(title, total=1.0, step=0, loss=float("nan"))

        def update(step: int, progress: float, scalars: dict[str, float]) -> None:
            bar.update(shown_task, completed=progress, step=step, loss=scalars["loss"])

        yield update


def _lines(title: str) -> OnStep:
    log = structlog.get_logger()
    began = time.monotonic()
    first: list[float] = []
    last = [0.0]

    def update(step: int, progress: float, scalars: dict[str, float]) -> None:
        first.append(progress) if not first else None
        now = time.monotonic()
        if now - last[0] < SECONDS_BETWEEN_LINES:
            return
        last[0] = now
        done = progress - first[0]
        left = (now - began) * (1 - progress) / done if done > 0 else None
        log.info(
            title,
            step=step,
            progress=f"{100 * progress:.1f} %",
            loss=round(scalars["loss"], 5),
            minutes_left=round(left / 60, 1) if left is not None else None,
        )

    return update
