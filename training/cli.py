"""``man-train``: prepare, fit, evaluate, export. Exit codes: 0 done, 1 failed, 2 wrong use."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training import options
from training.errors import RecipeError, TrainingError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console(stderr=True)

SECONDS_BETWEEN_LINES = 30.0
WIDEST_TABLE = 110


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
    inputs: options.Inputs,
    out: options.SetOut,
    split: options.SplitFile = None,
    assign: options.Assign = None,
    low_dose: options.LowDose = None,
    as_json: options.AsJson = False,
) -> None:
    """DICOM folders to a training set: HU slices, patient-wise split, manifest."""
    from training.data.prepare import prepare as run

    split_of = _split_of(split, assign)
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


def _split_of(path: Path | None, name: str | None) -> Callable[[str], str | None]:
    from training.data import splits

    if path and name:
        raise RecipeError("give either --split or --assign, not both")
    if path:
        return splits.split_by_file(path)
    return splits.split_by_name(name) if name else splits.split_by_hash()


@app.command()
def simulate(
    root: options.SetFolder,
    copies: options.Copies = 1,
    processes: options.Processes = 2,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """The noise of low dose for every full-dose slice; an interrupted run goes on."""
    from training.data.simulate import simulate as run

    with _counted("slices") as on_progress:
        done = run(root, copies=copies, processes=processes, seed=seed, on_progress=on_progress)
    _say(as_json, f"{done} slices simulated in {root}", {"slices": done})


@app.command()
def fit(
    recipe: options.RecipeName,
    data: options.FitData,
    out: options.RunOut,
    resume: options.Resume = False,
    steps: options.Steps = None,
    max_minutes: options.MaxMinutes = None,
    init: options.Init = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
) -> None:
    """Fit a recipe: man-autoencoder first, then man-diffusion with --init on its run."""
    import torch

    from training.fit.run import FitOptions
    from training.fit.run import fit as run
    from training.settings import load_recipe

    if threads:
        torch.set_num_threads(threads)
    wanted = FitOptions(data, out, resume, init, steps, max_minutes, device)
    done = run(load_recipe(recipe), wanted, console)
    words = "stopped early, go on with --resume" if done.stopped else "done"
    typer.echo(
        f"{out}: {words} after {done.step} steps and {done.clock.elapsed() / 60:.1f} minutes, "
        f"{done.skipped} steps skipped"
    )
    raise typer.Exit(1 if done.stopped else 0)


@app.command()
def evaluate(
    models: options.Models,
    data: options.EvaluationData,
    full: options.Full = None,
    split: options.Split = "validation",
    dose: options.Doses = [0.25],  # noqa: B006 - typer's way to give a repeatable option a default
    window: options.Windows = ["soft"],  # noqa: B006
    steps: options.SamplingSteps = [],  # noqa: B006
    slices: options.Slices = None,
    gaussian: options.Gaussian = False,
    ceiling: options.Ceiling = False,
    card: options.Card = None,
    device: options.Device = "auto",
    as_json: options.AsJson = False,
) -> None:
    """PSNR, SSIM, LPIPS and HU bias of models, always beside the untouched low dose."""
    from training.data.splits import known_split
    from training.evaluate import tables
    from training.evaluate.cases import Wanted, cases
    from training.evaluate.methods import methods_of
    from training.evaluate.run import evaluate as run

    windows = [tables.window_of(text) for text in window]
    wanted = Wanted(known_split(split), tuple(dose), slices)
    methods = methods_of(models, device=device, steps=steps, gaussian=gaussian, ceiling=ceiling)
    with _counted("series") as on_progress:
        rows = run(methods, cases(data, full, wanted), windows, on_case=on_progress)
    if card:
        tables.note_on_card(card, rows)
    if as_json:
        typer.echo(json.dumps(tables.json_of(rows)))
        return
    wide = Console(width=max(console.width, WIDEST_TABLE))
    for table in tables.tables_of(rows):
        wide.print(table)


@app.command()
def export(run: options.RunFolder, out: options.ModelOut, as_json: options.AsJson = False) -> None:
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
