"""Commands ``compare`` and ``promote``: one model against another on the same patients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from typer import Argument, Option

from training.cli import options
from training.cli.output import console, counted, write_result
from training.errors import RecipeError, TrainingError

if TYPE_CHECKING:
    from training.evaluate.comparison import Paired
    from training.evaluate.methods import Method
    from training.promotion.promote import Promotion

MIN_TABLE_COLUMNS = 130

TEST_IS_SPENT = "Note: this selects a model by the split `test`, which is no test any more."

NO_LPIPS = (
    "Note: LPIPS was not measured, since its weights are not on this machine; excessive "
    "smoothing shows there first (docs/perceptual.md)."
)

First = Annotated[str, Argument(metavar="A", help="Model name, card, exported folder or run.")]
Second = Annotated[str, Argument(metavar="B", help="Another one.")]
Candidate = Annotated[
    str | None, Argument(metavar="[MODEL]", help="Card, exported folder or model name.")
]
Data = Annotated[
    Path | None, Option("--data", help="Training set, or folder of DICOM files, held out.")
]
Site = Annotated[Path, Option("--to", help="The site's folder of models.")]
Current = Annotated[
    str | None,
    Option("--current", help="Current model; default: the one in force in --to, else man."),
]
Back = Annotated[bool, Option("--back", help="Return to the previous model.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command()(compare)
    app.command()(promote)


def compare(
    first: First,
    second: Second,
    data: options.EvaluationData,
    full: options.Full = None,
    split: options.Split = "validation",
    dose: options.Doses = [0.25],  # noqa: B006 - typer's way to give a repeatable option a default
    window: options.Windows = ["soft"],  # noqa: B006
    slices: options.Slices = None,
    device: options.Device = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Compare two models on the same patients: paired difference with its 95 % interval."""
    from training.data.splits import known_split
    from training.evaluate.cases import Wanted, cases
    from training.evaluate.comparison import compare as run
    from training.evaluate.methods import model_method
    from training.evaluate.windows import window_of

    windows = [window_of(text) for text in window]
    wanted = Wanted(known_split(split), tuple(dose), slices)
    models = [model_method(name, device=device) for name in (first, second)]
    with counted("series") as on_progress:
        pairs = run(models[0], models[1], cases(data, full, wanted), windows, on_progress)
    if as_json:
        typer.echo(json.dumps([pair.to_dict() for pair in pairs]))
    else:
        _show(pairs, models[0], models[1], ("A", "B"))


def promote(
    to: Site,
    model: Candidate = None,
    data: Data = None,
    full: options.Full = None,
    current: Current = None,
    split: options.Split = "validation",
    dose: options.Doses = [0.25, 0.1],  # noqa: B006
    window: options.Windows = ["soft"],  # noqa: B006
    slices: options.Slices = None,
    device: options.Device = "auto",
    back: Back = False,
    as_json: options.AsJson = False,
) -> None:
    """Put a model in force at the site unless it is worse than the current one."""
    if back:
        _roll_back(to, as_json, has_arguments=model is not None or data is not None)
        return
    if model is None or data is None:
        raise RecipeError("Give MODEL and --data with held-out patients, or --back.")
    from training.data.splits import known_split
    from training.evaluate.cases import Wanted
    from training.evaluate.windows import window_of
    from training.promotion.promote import PromotionRequest
    from training.promotion.promote import promote as run

    if split == "test":
        typer.echo(TEST_IS_SPENT, err=True)
    wanted = Wanted(known_split(split), tuple(dose), slices)
    windows = tuple(window_of(text) for text in window)
    with counted("series") as on_progress:
        done = run(
            PromotionRequest(model, to, data, full, current, wanted, windows, device), on_progress
        )
    _report(done, as_json)
    if done.card is None:
        raise TrainingError(
            f"The model is refused and {to} is unchanged: {'; '.join(done.faults)}."
        )


def _report(done: Promotion, as_json: bool) -> None:
    from training.evaluate.comparison import LPIPS

    if not any(pair.figure == LPIPS for pair in done.pairs):
        typer.echo(NO_LPIPS, err=True)
    if as_json:
        typer.echo(json.dumps({**done.record, "card": str(done.card) if done.card else None}))
        return
    _show(done.pairs, done.today, done.candidate, ("today", "candidate"))
    if done.card:
        typer.echo(f"In force: {done.card}")


def _roll_back(to: Path, as_json: bool, *, has_arguments: bool) -> None:
    from training.promotion.promote import roll_back

    if has_arguments:
        raise RecipeError("--back takes neither MODEL nor --data: it restores the previous model.")
    card = roll_back(to)
    write_result(as_json, f"The previous model is in force again: {card}", {"card": str(card)})


def _show(pairs: list[Paired], first: Method, second: Method, names: tuple[str, str]) -> None:
    from training.tables.terminal import paired_tables

    wide = Console(width=max(console.width, MIN_TABLE_COLUMNS))
    for table in paired_tables(pairs, first, second, names):
        wide.print(table)
