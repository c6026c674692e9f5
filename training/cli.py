"""``man-train``: prepare, fit, evaluate, export. Exit codes: 0 done, 1 failed, 2 wrong use."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.errors import RecipeError, TrainingError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console(stderr=True)

SECONDS_BETWEEN_LINES = 30.0
WIDEST_TABLE = 110

DataSet = Annotated[Path, typer.Option("--data", help="Folder of the training set.")]
Out = Annotated[Path, typer.Option("--out", help="Folder to write.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of words.")]


def main() -> None:
    """Entry point of the script; every error is one sentence."""
    try:
        app()
    except RecipeError as error:
        typer.secho(f"man-train: {error}", fg="red", err=True)
        raise SystemExit(2) from error
    except (TrainingError, OSError) as error:
        typer.secho(f"man-train: {error}", fg="red", err=True)
        raise SystemExit(1) from error


@app.command()
def prepare(
    inputs: Annotated[list[Path], typer.Argument(metavar="IN…", help="Folders of DICOM files.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the set; added to when present.")],
    split: Annotated[
        Path | None, typer.Option("--split", help="YAML file: patient ID to split.")
    ] = None,
    assign: Annotated[
        str | None, typer.Option("--assign", help="One split for all: train, validation or test.")
    ] = None,
    low_dose: Annotated[
        float | None,
        typer.Option(
            "--low-dose",
            min=0.001,
            max=0.999,
            help="The inputs are low-dose partners of series in the set, at this share of dose.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """DICOM folders to a training set: HU slices, patient-wise split, manifest."""
    from training.data import splits
    from training.data.prepare import prepare as run

    if split and assign:
        raise RecipeError("give either --split or --assign, not both")
    split_of = (
        splits.split_by_file(split)
        if split
        else splits.split_by_name(assign)
        if assign
        else splits.split_by_hash()
    )
    with _counted("series") as on_progress:
        done = run(inputs, out, split_of, low_dose=low_dose, on_progress=on_progress)
    for reason in done.skipped:
        typer.echo(f"left out: {reason}", err=True)
    _say(
        as_json,
        f"{done.slices} slices of {done.added} series added to {out}, "
        f"{len(done.skipped)} series left out",
        {"series": done.added, "slices": done.slices, "skipped": done.skipped},
    )


@app.command()
def simulate(
    root: Annotated[Path, typer.Argument(metavar="SET", help="Folder of the training set.")],
    copies: Annotated[int, typer.Option("--copies", min=1, help="Noise images a slice.")] = 1,
    processes: Annotated[int, typer.Option("--processes", min=1)] = 2,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    as_json: AsJson = False,
) -> None:
    """The noise of low dose for every full-dose slice; an interrupted run goes on."""
    from training.data.simulate import simulate as run

    with _counted("slices") as on_progress:
        done = run(root, copies=copies, processes=processes, seed=seed, on_progress=on_progress)
    _say(as_json, f"{done} slices simulated in {root}", {"slices": done})


@app.command()
def fit(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or a YAML file.")],
    data: DataSet,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run.")
    ] = False,
    steps: Annotated[int | None, typer.Option("--steps", min=1)] = None,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", help="The schedule then fits this time.")
    ] = None,
    init: Annotated[
        Path | None, typer.Option("--init", help="Run or weights to start from.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option("--threads", min=1)] = None,
) -> None:
    """Fit a recipe: man-autoencoder first, then man-diffusion with --init on its run."""
    from training.fit.run import FitOptions
    from training.fit.run import fit as run
    from training.settings import load_recipe

    if threads:
        torch.set_num_threads(threads)
    options = FitOptions(data, out, resume, init, steps, max_minutes, device)
    done = run(load_recipe(recipe), options, console)
    words = "stopped early, go on with --resume" if done.stopped else "done"
    typer.echo(
        f"{out}: {words} after {done.step} steps and {done.clock.elapsed() / 60:.1f} minutes, "
        f"{done.skipped} steps skipped"
    )
    raise typer.Exit(1 if done.stopped else 0)


@app.command()
def evaluate(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL…", help="Model names, cards, or runs.")
    ],
    data: Annotated[Path, typer.Option("--data", help="Training set, or folder of DICOM files.")],
    full: Annotated[
        Path | None, typer.Option("--full", help="Full-dose partners: --data is then low dose.")
    ] = None,
    split: Annotated[str, typer.Option("--split")] = "validation",
    dose: Annotated[
        list[float], typer.Option("--dose", min=0.001, max=0.999, help="May be repeated.")
    ] = [0.25],  # noqa: B006 - typer's way of a repeatable option's default
    window: Annotated[
        list[str], typer.Option("--window", help="soft, lung, …-exam or LOW,HIGH.")
    ] = ["soft"],  # noqa: B006
    steps: Annotated[
        list[int], typer.Option("--steps", min=1, help="Sampling steps; may be repeated.")
    ] = [],  # noqa: B006
    slices: Annotated[int | None, typer.Option("--slices", min=1, help="Of a series.")] = None,
    gaussian: Annotated[bool, typer.Option("--gaussian", help="Add the best blur.")] = False,
    card: Annotated[
        Path | None, typer.Option("--card", help="Write the measured rows into this card.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """PSNR, SSIM, LPIPS and HU bias of models, always beside the untouched low dose."""
    from training.data.splits import known_split
    from training.evaluate import tables
    from training.evaluate.cases import Wanted, cases
    from training.evaluate.methods import methods_of
    from training.evaluate.run import evaluate as run

    windows = [tables.window_of(text) for text in window]
    wanted = Wanted(known_split(split), tuple(dose), slices)
    methods = methods_of(models, device=device, steps=steps, gaussian=gaussian)
    with _counted("series") as on_progress:
        rows = run(methods, cases(data, full, wanted), windows, on_case=on_progress)
    if card:
        tables.note_on_card(card, rows)
    if as_json:
        typer.echo(json.dumps(tables.json_of(rows)))
    else:
        wide = Console(width=max(console.width, WIDEST_TABLE))
        for table in tables.tables_of(rows):
            wide.print(table)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    out: Out,
    as_json: AsJson = False,
) -> None:
    """The averaged weights of a run and their card, ready for the node."""
    from training.fit.run import export as write

    card = write(run, out)
    _say(as_json, f"wrote {card}", {"card": str(card)})


@contextmanager
def _counted(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar with the time left on a terminal; a plain line now and then elsewhere."""
    if not console.is_terminal:
        yield _counted_in_lines(what)
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _counted_in_lines(what: str) -> Callable[[int, int | None], None]:
    shown = time.monotonic()

    def show(done: int, total: int | None) -> None:
        nonlocal shown
        if time.monotonic() - shown >= SECONDS_BETWEEN_LINES:
            shown = time.monotonic()
            of_all = f" of {total}" if total else ""
            console.print(f"{done}{of_all} {what}", markup=False)

    return show


def _say(as_json: bool, words: str, facts: dict[str, object]) -> None:
    typer.echo(json.dumps(facts) if as_json else words)


if __name__ == "__main__":
    main()
