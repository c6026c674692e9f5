"""The commands put together, and what becomes of an error."""

from __future__ import annotations

import typer

from training.cli import data, evaluation, fitting, promotion, quality, tables
from training.errors import RecipeError, TrainingError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for group in (data, fitting, evaluation, promotion, quality, tables):
    group.register(app)


def main() -> None:
    """Run the command in ``sys.argv``; every error is one sentence."""
    try:
        app()
    except RecipeError as error:
        typer.secho(f"man-train: {error}", fg="red", err=True)
        raise SystemExit(2) from error
    except (TrainingError, OSError) as error:
        typer.secho(f"man-train: {error}", fg="red", err=True)
        raise SystemExit(1) from error
