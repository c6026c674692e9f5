"""``noise-reference``: learn the noise of the site's full-dose series."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.file_modes import modes_of_the_caller
from dicom_node.cli.output import AsJson, printable, progress, write_json, write_table
from dicom_node.cli.signals import ending_in_order
from man_core import MIN_PATIENTS, ReferenceCell


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command("noise-reference")(noise_reference)


def noise_reference(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help="Folders with the site's own full-dose series."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File to write, for `model.noise_reference`.")
    ] = Path("noise-reference.json"),
    as_json: AsJson = False,
) -> None:
    """Learn the noise of full-dose series, from which `dose_gain: auto` follows.

    The file holds the noise of each kind of series (kernel or texture, body region, slice
    thickness) with the numbers of series and patients, and nothing else of them.
    """
    from dicom_node.denoising.noise_reference import learn_noise, save_reference

    with ending_in_order(), modes_of_the_caller(), progress("measuring") as on_series:
        learned = learn_noise(folders, on_progress=on_series)
        save_reference(out, learned.reference)
    cells = learned.reference.cells
    if as_json:
        write_json(
            {
                "file": str(out),
                "series": learned.series,
                "cells": [{**asdict(cell), "used": cell.usable} for cell in cells],
                "skipped": list(learned.skipped),
            }
        )
        return
    write_table(("series like", "noise", "range", "series", "patients", "used"), map(_row, cells))
    for sentence in learned.skipped:
        typer.echo(printable(sentence), err=True)
    used = sum(cell.usable for cell in cells)
    typer.echo(
        f"{out}: {learned.series} series of {len(cells)} kinds, of which {used} have the"
        f" {MIN_PATIENTS} patients from which on they are used; {len(learned.skipped)} skipped."
    )


def _row(cell: ReferenceCell) -> tuple[str, ...]:
    return (
        cell.words,
        f"{cell.noise_hu:.1f} HU at {cell.thickness_mm:g} mm",
        f"{cell.lowest_hu:.1f} to {cell.highest_hu:.1f}",
        str(cell.series),
        str(cell.patients),
        "yes" if cell.usable else "no",
    )
