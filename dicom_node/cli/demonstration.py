"""``demo``: the whole line on loopback, with numbers against a known truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from dicom_node.cli.output import AsJson, write_json, write_table

if TYPE_CHECKING:  # the demo needs torch, which other commands do not wait for
    from dicom_node.demo.measure import Row
    from dicom_node.demo.run import DemoResult


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(demo)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for images, pictures and report.")] = Path(
        "demo"
    ),
    slices: Annotated[int, typer.Option(min=2, help="Slices of the simulated series.")] = 24,
    anatomy: Annotated[
        Literal["abdomen", "chest", "head"], typer.Option(help="Body region.")
    ] = "abdomen",
    size: Annotated[int, typer.Option(min=64, help="Rows and columns.")] = 512,
    model: Annotated[str, typer.Option(help="The denoiser.")] = "man",
    as_json: AsJson = False,
) -> None:
    """Simulate a low-dose patient, run the whole line, compare with the truth."""
    from dicom_node.demo.run import DemoOptions, run_demo

    options = DemoOptions(out=out, anatomy=anatomy, slices=slices, size=size, model=model)
    console = Console(stderr=True)
    with console.status("") as status:
        said: list[str] = []

        def tell(what: str) -> None:
            status.update(what)
            stage = what.split(":")[0]
            if said[-1:] != [stage]:
                said.append(stage)
                console.print(f"· {stage}", highlight=False)

        result = run_demo(options, tell)
    if as_json:
        write_json(result.to_dict())
    else:
        _show(result, options.out)
    if not result.good:
        typer.echo("The denoised series is not nearer to the truth than the low dose.", err=True)
        raise typer.Exit(1)


def _show(result: DemoResult, out: Path) -> None:
    typer.echo(f"All {result.slices} slices came back to the PACS.")
    stages = result.stages
    write_table(
        ("stage", "seconds", "seconds a slice"),
        [
            (name, f"{seconds:.1f}", f"{seconds / result.slices:.2f}")
            for name, seconds in (
                ("receive", stages.receive),
                ("wait", stages.wait),
                ("denoise", stages.denoise),
                ("send", stages.send),
            )
        ],
    )
    write_table(
        ("[-160, 240] HU", "noise HU", "PSNR dB", "SSIM", "LPIPS", "bias soft tissue HU"),
        [_cells(row) for row in result.rows],
    )
    typer.echo(f"Pictures: {result.pictures[0]}; images, log and report in {out}.")


def _cells(row: Row) -> tuple[str, ...]:
    def number(value: float | None, digits: int) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    return (
        row.name,
        number(row.noise_hu, 1),
        number(row.psnr_db, 2),
        number(row.ssim, 4),
        number(row.lpips, 4),
        number(row.bias_hu.get("soft tissue"), 2),
    )
