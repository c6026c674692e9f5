"""Command ``evaluate``: image quality of models on held-out data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from training.cli import options
from training.cli.output import console, counted

if TYPE_CHECKING:  # torch is loaded when there is something to measure
    from man_core.quality import Window
    from training.evaluate.cases import Case
    from training.evaluate.methods import Method
    from training.evaluate.run import Row

MIN_TABLE_COLUMNS = 124


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command()(evaluate)


def evaluate(
    models: options.Models,
    data: options.EvaluationData,
    full: options.Full = None,
    split: options.Split = "validation",
    dose: options.Doses = [0.25],  # noqa: B006 - typer's way to give a repeatable option a default
    window: options.Windows = ["soft"],  # noqa: B006
    steps: options.SamplingSteps = [],  # noqa: B006
    sampler: options.Samplers = [],  # noqa: B006
    slices: options.Slices = None,
    gaussian: options.Gaussian = False,
    classical: options.Classical = False,
    ceiling: options.Ceiling = False,
    row: options.ResultRows = [],  # noqa: B006
    partial: options.Partial = False,
    card: options.Card = None,
    device: options.Device = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Measure PSNR, SSIM, LPIPS and HU bias of models, always beside the untouched low dose.

    A MODEL may be a folder of denoised DICOM images of any origin, for real pairs.
    """
    from training.data.splits import known_split
    from training.evaluate.cases import Wanted, cases
    from training.evaluate.methods import methods_of
    from training.evaluate.windows import window_of
    from training.tables.card import add_to_card

    windows, wanted = [*map(window_of, window)], Wanted(known_split(split), tuple(dose), slices)
    methods = methods_of(
        models,
        rows=row,
        device=device,
        steps=steps,
        samplers=sampler,
        gaussian=gaussian,
        classical=classical,
        ceiling=ceiling,
    )
    measured = _measured(methods, cases(data, full, wanted), windows, partial=partial)
    if card:
        add_to_card(card, measured)
    _show(measured, as_json)


def _measured(
    methods: Sequence[Method], found: Iterable[Case], windows: Sequence[Window], *, partial: bool
) -> list[Row]:
    from training.evaluate.coverage import Coverage
    from training.evaluate.run import evaluate as run

    coverage = Coverage(methods, partial=partial)
    with counted("series") as on_progress:
        rows = run(methods, coverage.of(found), windows, on_case=on_progress)
    return coverage.stated(rows)


def _show(rows: Sequence[Row], as_json: bool) -> None:
    from training.tables.terminal import row_tables

    if as_json:
        typer.echo(json.dumps([row.to_dict() for row in rows]))
        return
    wide = Console(width=max(console.width, MIN_TABLE_COLUMNS))
    for table in row_tables(rows):
        wide.print(table)
