"""Command ``assess``: acceptance of a model by measurements with limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from typer import Argument, Option

from training.cli import options
from training.cli.output import console, counted

if TYPE_CHECKING:
    from training.assess.protocol import Assessment

MIN_TABLE_COLUMNS = 140

Model = Annotated[
    str, Argument(metavar="MODEL", help="A model's name, card, exported folder or run.")
]
Dose = Annotated[
    float, Option("--dose", min=0.001, max=0.999, help="Fraction of full dose to simulate.")
]
Slices = Annotated[int, Option("--slices", min=1, help="Maximum number of slices per series.")]
Series = Annotated[
    Path | None,
    Option("--series", help="DICOM folder with a full-dose series of neighbouring slices."),
]
Phantom = Annotated[
    bool, Option("--phantom/--no-phantom", help="Also assess on simulated patients and phantoms.")
]
Trials = Annotated[int, Option("--trials", min=0, help="Number of lesions to insert.")]
Pairs = Annotated[
    int,
    Option("--pairs", min=0, help="Regions with and without each low-contrast disc; 0: none."),
]
Strict = Annotated[bool, Option("--strict", help="Exit with 1 if a limit is broken.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command()(assess)


def assess(
    model: Model,
    data: options.EvaluationData,
    full: options.Full = None,
    split: options.Split = "validation",
    series: Series = None,
    phantom: Phantom = True,
    dose: Dose = 0.25,
    trials: Trials = 200,
    pairs: Pairs = 200,
    slices: Slices = 16,
    strict: Strict = False,
    device: options.Device = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Assess HU bias, full dose, inserted lesions, noise texture and continuity, with verdicts."""
    from training.assess.protocol import assess as run
    from training.data.splits import known_split
    from training.evaluate.cases import Wanted, cases
    from training.evaluate.methods import model_method

    method = model_method(model, device=device)
    wanted = Wanted(known_split(split), (dose,), slices)
    neighbours = cases(series, None, Wanted(doses=(dose,))) if series else ()
    low = cases(data, full, wanted)
    with counted("series") as on_case:
        done = run(
            method,
            low,
            neighbours,
            trials=trials,
            pairs=pairs,
            phantom_dose=dose if phantom else None,
            on_case=on_case,
        )
    _print(done, as_json)
    if strict and done.broken:
        raise typer.Exit(1)


def _print(assessment: Assessment, as_json: bool) -> None:
    from training.assess import report

    if as_json:
        typer.echo(json.dumps(report.json_of(assessment)))
        return
    wide = Console(width=max(console.width, MIN_TABLE_COLUMNS))
    for table in report.tables_of(assessment):
        wide.print(table)
