"""A whole series: seconds of each part, slices a second and memory, beside another version.

``python -m benchmarks.series`` denoises generated series, or one of your own, by the command
``dicom-node denoise`` (with its start), by its function in a warm process, and through a real node
between a scanner and a PACS on loopback. ``--against PATH`` runs the source tree in PATH in turn
with this one, round after round, and prints the ratios of the medians.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.ct_series import write_phantom
from benchmarks.machine import (
    REPOSITORY,
    at_least,
    existing_folder,
    hardware,
    median,
    table,
    write,
)
from benchmarks.series.node import by_node
from benchmarks.series.parts import PARTS
from benchmarks.series.ways import Checkout, Run, Work, by_command, by_function

WAYS: Mapping[str, Callable[[Work, Path], Run]] = {
    "command": by_command,
    "function": by_function,
    "node": by_node,
}

THIS, OTHER = "this", "other"

Key = tuple[str, str, int, str]
"""Way, model, slices, checkout."""


def main(words: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = _parser()
    options = parser.parse_args(words)
    if options.against and not (options.against / "dicom_node").is_dir():
        parser.error(f"{options.against} is not a source tree of this product.")
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="series-") as folder:
        runs = list(_measured(options, Path(folder)))
    report = {
        "hardware": hardware(),
        "options": vars(options),
        "runs": [asdict(run) for run in runs],
        "ratios": _ratios(runs),
    }
    if options.json:
        text = json.dumps(report, indent=1, default=str)
        Path(options.json).write_text(text + "\n", encoding="utf-8")
    _print(report, runs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.series", description=__doc__)
    parser.add_argument(
        "--slices", type=at_least(1), nargs="+", default=[50, 300],
        help="lengths of the generated series; default: 50 and 300",
    )  # fmt: skip
    parser.add_argument("--size", type=int, default=512, help="rows and columns of a slice")
    parser.add_argument(
        "--series", type=existing_folder, help="folder with the files of one series instead"
    )
    parser.add_argument(
        "--models", nargs="+", default=["identity", "man"],
        help="models that denoise them; default: identity and man",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--ways", nargs="+", default=list(WAYS), choices=list(WAYS),
        help="ways from files to files, as above; default: all",
    )  # fmt: skip
    parser.add_argument("--against", type=Path, help="another source tree of the product")
    parser.add_argument(
        "--rounds", type=at_least(1), default=3, help="runs of each measurement; default: 3"
    )
    parser.add_argument(
        "--folder", type=existing_folder, help="where to write; on the disk that is to be measured"
    )
    parser.add_argument("--json", help="file for the figures")
    return parser


def _measured(options: argparse.Namespace, folder: Path) -> Iterator[Run]:
    checkouts = [Checkout(THIS, REPOSITORY)]
    if options.against:
        checkouts.append(Checkout(OTHER, options.against.resolve()))
    series = _series(options, folder)
    number = 0
    for turn in range(options.rounds):
        for files in series:
            for model in options.models:
                for way in options.ways:
                    for at in range(len(checkouts)):
                        checkout = checkouts[(at + turn) % len(checkouts)]
                        place = folder / f"run{(number := number + 1)}"
                        place.mkdir()
                        run = WAYS[way](Work(checkout, files, model, options.device), place)
                        write(_line(run))
                        yield run


def _series(options: argparse.Namespace, folder: Path) -> list[list[Path]]:
    if options.series:
        return [sorted(path for path in options.series.resolve().iterdir() if path.is_file())]
    return [
        write_phantom(folder / f"series{slices}", slices, size=options.size)
        for slices in options.slices
    ]


def _line(run: Run) -> str:
    return (
        f"{run.way:<9} {run.checkout:<6} {run.model:<9} {run.slices:4} slices {run.seconds:8.2f} s"
        f" {run.slices / run.seconds:7.1f}/s"
    )


def _by_key(runs: Sequence[Run]) -> dict[Key, list[Run]]:
    found: dict[Key, list[Run]] = {}
    for run in runs:
        found.setdefault((run.way, run.model, run.slices, run.checkout), []).append(run)
    return found


def _seconds(runs: Sequence[Run], part: str) -> float:
    """Return the median of a part; NaN where it was not seen."""
    return median([run.parts[part] for run in runs if part in run.parts])


def _ratios(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """Return seconds of the other checkout divided by those of this one: whole and parts."""
    found = _by_key(runs)
    ratios = {}
    for (way, model, slices, checkout), mine in found.items():
        others = found.get((way, model, slices, OTHER))
        if checkout == THIS and others:
            whole = median([run.seconds for run in others]) / median([run.seconds for run in mine])
            parts = {part: _ratio(others, mine, part) for part in PARTS}
            shown = {part: ratio for part, ratio in parts.items() if ratio == ratio}
            ratios[f"{way}, {model}, {slices} slices"] = {"seconds": whole, **shown}
    return ratios


def _ratio(others: Sequence[Run], mine: Sequence[Run], part: str) -> float:
    own = _seconds(mine, part)
    return _seconds(others, part) / own if own else float("nan")


def _print(report: Mapping[str, object], runs: Sequence[Run]) -> None:
    write(f"\n{json.dumps(report['hardware'])}\n")
    head = ("slices", "model", "way", "version", "s", "slices/s", *PARTS, "guard says", "peak MiB")
    rows = []
    for (way, model, slices, checkout), chosen in sorted(_by_key(runs).items(), key=_order):
        seconds = median([run.seconds for run in chosen])
        parts = [_cell(_seconds(chosen, part)) for part in PARTS]
        rows.append([
            str(slices), model, way, checkout, f"{seconds:.2f}", f"{slices / seconds:.1f}",
            *parts, chosen[0].verdict, _peaks(chosen),
        ])  # fmt: skip
    write(table(head, rows))
    for name, ratios in _ratios(runs).items():
        words = ", ".join(f"{part} {ratio:.2f}" for part, ratio in ratios.items())
        write(f"{OTHER} ÷ {THIS}: {name}: {words}")


def _order(item: tuple[Key, object]) -> tuple[int, str, str, str]:
    way, model, slices, checkout = item[0]
    return slices, model, way, checkout


def _cell(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds == seconds else ""


def _peaks(runs: Sequence[Run]) -> str:
    names = dict.fromkeys(name for run in runs for name in run.peak_mib)
    most = {name: max(run.peak_mib.get(name, 0.0) for run in runs) for name in names}
    return ", ".join(f"{name} {mib:.0f}" for name, mib in most.items())
