"""``demo``: a complete run on loopback, compared with a known truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from dicom_node.cli.output import AsJson, write_json, write_table

if TYPE_CHECKING:  # the demo imports torch, for which other commands should not wait
    from dicom_node.demo.measure import Row
    from dicom_node.demo.run import DemoResult


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(demo)


def demo(
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Folder for images, pictures and report.")
    ] = Path("demo"),
    slices: Annotated[
        int, typer.Option(min=2, help="Number of slices in the simulated series.")
    ] = 24,
    anatomy: Annotated[
        Literal["abdomen", "chest", "head"], typer.Option(help="Body region of the phantom.")
    ] = "abdomen",
    size: Annotated[int, typer.Option(min=64, help="Number of rows and columns.")] = 512,
    model: Annotated[str, typer.Option(help="The model; see `models`.")] = "man",
    as_json: AsJson = False,
) -> None:
    """Demonstrate the node: simulate a low-dose series, denoise it, compare with the truth.

    A real node runs between a simulated scanner and a simulated PACS on this machine.
    """
    from dicom_node.demo.run import DemoOptions, run_demo

    options = DemoOptions(out=out, anatomy=anatomy, slices=slices, size=size, model=model)
    console = Console(stderr=True)
    with console.status("") as status:
        shown: list[str] = []

        def report(what: str) -> None:
            status.update(what)
            stage = what.split(":")[0]
            if shown[-1:] != [stage]:
                shown.append(stage)
                console.print(f"· {stage}", highlight=False)

        result = run_demo(options, report)
    if as_json:
        write_json(result.to_dict())
    else:
        _show(result, options.out)
    if not result.good:
        typer.echo(
            "The denoised series is not closer to the truth than the low-dose series.", err=True
        )
        raise typer.Exit(1)


def _show(result: DemoResult, out: Path) -> None:
    typer.echo(f"All {result.slices} slices arrived back at the PACS.")
    stages = result.stages
    write_table(
        ("stage", "seconds", "seconds per slice"),
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
    typer.echo(f"The pictures are in {result.pictures[0]}; images, log and report are in {out}.")


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
