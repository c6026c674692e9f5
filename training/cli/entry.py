"""Application ``man-train``: its commands, options and errors."""

from __future__ import annotations

from typing import Annotated

import typer

from dicom_node.ct import prepare_dicom_libraries
from dicom_node.product import PRODUCT_VERSION
from training.cli import curve, data, evaluation, fitting, imports, promotion, quality, tables
from training.errors import RecipeError, TrainingError

app = typer.Typer(
    help="Fit denoising models on a site's own scans, measure them and put them in force.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (data, fitting, imports, evaluation, curve, promotion, quality, tables):
    group.register(app)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"man-train {PRODUCT_VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Options that come before any command."""


def main() -> None:
    """Run the command in ``sys.argv``; every error is one sentence."""
    prepare_dicom_libraries()
    try:
        app()
    except RecipeError as error:
        typer.secho(f"man-train: {error}", fg="red", err=True)
        raise SystemExit(2) from error
    except OSError as error:
        place = error.filename or "A file"
        reason = f"{place} cannot be used ({error.strerror or error}): name another, or correct it."
        typer.secho(f"man-train: {reason}", fg="red", err=True)
        raise SystemExit(1) from error
    except TrainingError as error:
        typer.secho(f"man-train: {error}", fg="red", err=True)
        raise SystemExit(1) from error
