"""Commands ``prepare`` and ``simulate``: from DICOM to a training set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import typer

from training.cli import options
from training.cli.output import counted, write_result
from training.errors import RecipeError


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command()(prepare)
    app.command()(simulate)


def prepare(
    inputs: options.Inputs,
    out: options.SetOut,
    split: options.SplitFile = None,
    assign: options.Assign = None,
    low_dose: options.LowDose = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a training set of DICOM or NIfTI: HU slices, patient-wise split, manifest."""
    from training.data.prepare import prepare as run

    split_of = _split_of(split, assign)
    with counted("series") as on_progress:
        done = run(inputs, out, split_of, low_dose=low_dose, on_progress=on_progress)
    for reason in done.skipped:
        typer.echo(f"Left out: {reason}", err=True)
    write_result(
        as_json,
        f"{done.slices} slices of {done.added} series added to {out}, "
        f"{len(done.skipped)} series left out.",
        {"series": done.added, "slices": done.slices, "skipped": done.skipped},
    )


def _split_of(path: Path | None, name: str | None) -> Callable[[str], str | None]:
    from training.data import splits

    if path and name:
        raise RecipeError("Give either --split or --assign, not both.")
    if path:
        return splits.split_by_file(path)
    return splits.split_by_name(name) if name else splits.split_by_hash()


def simulate(
    root: options.SetFolder,
    copies: options.Copies = 1,
    processes: options.Processes = 2,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Simulate the noise of low dose for every full-dose slice; an interrupted run continues."""
    from training.data.simulate import simulate as run

    with counted("slices") as on_progress:
        done = run(
            root,
            copies=copies,
            processes=processes,
            seed=seed,
            device=device,
            on_progress=on_progress,
        )
    write_result(as_json, f"{done} slices simulated in {root}.", {"slices": done})
