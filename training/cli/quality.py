"""Command ``assess``: acceptance of a model by measurements with limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from typer import Argument, Option

from man_core import MAX_DOSE_GAIN
from training.cli import options
from training.cli.curve import positions
from training.cli.output import console, counted
from training.errors import RecipeError

if TYPE_CHECKING:
    from training.assess.page import Extent
    from training.assess.protocol import Assessment
    from training.assess.sweep import Rows
    from training.evaluate.cases import Case
    from training.evaluate.methods import Method

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
WithSweep = Annotated[
    bool, Option("--sweep/--no-sweep", help="Also measure from quiet to loud full dose.")
]
Beside = Annotated[
    list[str],
    Option("--beside", metavar="MODEL", help="Another model in the noise sweep; may be repeated."),
]
Gains = Annotated[
    list[float],
    Option(
        "--gain",
        min=1.0,
        max=MAX_DOSE_GAIN,
        help="Dose gain to sweep as well; may be repeated.",
    ),
]
Strengths = Annotated[
    list[float],
    Option("--strength", min=0.0, max=1.0, help="Strength to sweep as well; may be repeated."),
]
Out = Annotated[Path | None, Option("--out", help="Folder for JSON, Markdown and the figure.")]
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
    sweep: WithSweep = True,
    beside: Beside = [],  # noqa: B006 - typer's way to give a repeatable option a default
    gain: Gains = [],  # noqa: B006
    strength: Strengths = [],  # noqa: B006
    out: Out = None,
    strict: Strict = False,
    device: options.Device = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Assess HU, lesions, detectability, noise, loudness and continuity, with verdicts."""
    from training.assess.page import Extent, circumstances_of, save_assessment
    from training.data.splits import known_split
    from training.evaluate.cases import Wanted, cases
    from training.evaluate.methods import model_method

    method = model_method(model, device=device)
    rows = _rows(method, beside, gain, strength, device) if sweep else None
    if out:
        out.mkdir(parents=True, exist_ok=True)  # before hours of measuring, not after
    low = list(cases(data, full, Wanted(known_split(split), (dose,), slices)))
    neighbours = list(cases(series, None, Wanted(doses=(dose,)))) if series else []
    extent = Extent(dose, slices, trials, pairs, phantom)
    done = _assessed(method, low, neighbours, extent, rows)
    if out:
        save_assessment(done, circumstances_of(method, low, extent), out)
    _print(done, as_json)
    if strict and done.broken:
        raise typer.Exit(1)


def _assessed(
    method: Method,
    low: list[Case],
    neighbours: list[Case],
    extent: Extent,
    rows: Rows | None,
) -> Assessment:
    from training.assess.protocol import assess as run

    with counted("series") as on_case:
        return run(
            method,
            low,
            neighbours,
            trials=extent.lesions,
            pairs=extent.pairs,
            phantom_dose=extent.dose if extent.phantom else None,
            rows=rows,
            on_case=on_case,
        )


def _rows(
    method: Method,
    beside: list[str],
    gains: list[float],
    strengths: list[float],
    device: str,
) -> Rows:
    """Load the rows of the noise sweep."""
    from training.assess.sweep import Rows
    from training.evaluate.dials import at_gain, at_strength
    from training.evaluate.methods import model_method

    if gains and method.dose_gain is None:
        raise RecipeError(f"The model {method.name} cannot be told a dose gain; leave out --gain.")
    settings = [at_strength(method, value) for value in positions(strengths)]
    settings += [at_gain(method, value) for value in positions(gains)]
    return Rows(tuple(settings), tuple(model_method(name, device=device) for name in beside))


def _print(assessment: Assessment, as_json: bool) -> None:
    from training.assess import report

    if as_json:
        typer.echo(json.dumps(report.json_of(assessment)))
        return
    wide = Console(width=max(console.width, MIN_TABLE_COLUMNS))
    for table in report.tables_of(assessment):
        wide.print(table)
