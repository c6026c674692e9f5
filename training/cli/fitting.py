"""Commands ``fit`` and ``export``: from a training set to weights and their card."""

from __future__ import annotations

import typer

from training.cli import options
from training.cli.output import fit_progress, write_result


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command()(fit)
    app.command()(export)


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
    compile: options.Compile = None,  # noqa: A002 - the name of the option
) -> None:
    """Fit a recipe: man-autoencoder first, then man-diffusion with --init on its run.

    On several GPUs: torchrun --nproc-per-node N -m training.cli fit … with the same arguments.
    """
    import torch

    from training.fit.run import FitOptions
    from training.fit.run import fit as run
    from training.settings import load_recipe

    if threads:
        torch.set_num_threads(threads)
    wanted = FitOptions(data, out, resume, init, steps, max_minutes, device, compile)
    done = run(load_recipe(recipe), wanted, fit_progress)
    words = "stopped early (continue with --resume)" if done.stopped else "done"
    if done.ranks.leads:
        pace = done.pace.in_all()
        typer.echo(
            f"{out}: {words} after {done.step} steps and {done.clock.elapsed() / 60:.1f} minutes, "
            f"{done.skipped} steps skipped; {pace['steps_per_second']:.3g} steps per second, "
            f"{pace['data_wait_share']:.1%} of the time waiting for data."
        )
    raise typer.Exit(1 if done.stopped else 0)


def export(
    run: options.RunFolder,
    out: options.ModelOut,
    name: options.ModelName = None,
    started_from: options.StartedFrom = None,
    as_json: options.AsJson = False,
) -> None:
    """Write the averaged weights of a run and their card, ready for the node."""
    from training.fit.export import export as write

    card = write(run, out, name=name, started_from=started_from)
    write_result(as_json, f"Wrote {card}.", {"card": str(card)})
