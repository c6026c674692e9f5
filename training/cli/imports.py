"""Commands ``import …``: networks of other programs in our format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.cli import options
from training.cli.output import write_result

Checkpoint = Annotated[Path, typer.Argument(metavar="FILE", help="Checkpoint (.pt) to import.")]
Method = Annotated[
    str | None,
    typer.Option("--method", help="Method of the file, if it does not say so: redcnn, dugan, …"),
]
Name = Annotated[
    str | None,
    typer.Option("--name", help="Name of the model. Default: ldctbench- and the method."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(
        help="Bring networks of other programs into our format.", no_args_is_help=True
    )
    group.command("ldct-benchmark")(ldct_benchmark)
    app.add_typer(group, name="import")


def ldct_benchmark(
    file: Checkpoint,
    out: options.ModelOut,
    method: Method = None,
    name: Name = None,
    as_json: options.AsJson = False,
) -> None:
    """Write a published network of ldct-benchmark as weights and card, for comparison."""
    from training.fit.ldct_benchmark import import_published

    card = import_published(file, out, method=method, name=name)
    write_result(as_json, f"Wrote {card}.", {"card": str(card)})
