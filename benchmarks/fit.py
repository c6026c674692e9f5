"""Speed of ``man-train fit`` beside another checkout's, in one run.

``python -m benchmarks.fit --before CHECKOUT`` fits the same recipe on the same set by the code of
both, in turn, round after round, each in a process of its own, and prints the time and the
processor time of a step with their ratios. The first steps do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.machine import REPOSITORY, at_least, hardware, median, table, write
from training.data.manifest import (
    Manifest,
    SeriesEntry,
    SliceEntry,
    noise_file,
    save_manifest,
    slices_file,
)
from training.data.texture import table_cutoffs
from training.settings import load_recipe

NOW, BEFORE, COMPILED = "now", "before", "now, compiled"

MAX_WARM_STEPS = 20
"""Steps that do not count, unless half of all are fewer: as many as a fit on a GPU launches before
it reports them."""

SET_PATIENTS, SET_SLICES = 4, 16
BODY_HU, NOISE_HU = 40, 12.0

TIMED = """
import sys, time
from contextlib import contextmanager
from pathlib import Path
import torch
from training.fit.run import FitOptions, fit
from training.settings import load_recipe

recipe, data, out, init, device, warm, compiled = sys.argv[1:]
marks = []


def mark():
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    marks.append((time.perf_counter(), time.process_time()))


@contextmanager
def display(_title):
    yield lambda step, *_: mark() if step == int(warm) else None


options = {"compile": True} if compiled else {}
start = Path(init) if init else None
done = fit(
    load_recipe(recipe), FitOptions(Path(data), Path(out), init=start, device=device, **options),
    display,
)
mark()
steps = done.step - int(warm)
print("measured", *((b - a) / steps for a, b in zip(*marks)))
"""
"""Program of a run; it uses what every version of the product has."""


@dataclass(frozen=True)
class Run:
    """Cost of a step.

    Attributes:
        code: Code that ran.
        seconds: Time of a step.
        processor: Processor time of a step in the main process, all threads.
    """

    code: str
    seconds: float
    processor: float


def make_set(root: Path, pixels: int) -> Path:
    """Write a training set of noise in a disc; its speed is that of any set of such slices."""
    random = np.random.default_rng(0)
    line = np.arange(pixels) - 0.5 * (pixels - 1)
    body = np.hypot(line[:, None], line[None, :]) < 0.4 * pixels
    shape = (SET_SLICES, pixels, pixels)
    manifest = Manifest()
    for folder in ("slices", "noise"):
        (root / folder).mkdir(parents=True)
    for number in range(SET_PATIENTS):
        name = f"{number:04x}"
        noise = random.normal(0.0, NOISE_HU, shape)
        np.save(slices_file(root, name), np.where(body, BODY_HU + noise, -1000).astype(np.int16))
        np.save(noise_file(root, name, 0), noise.astype(np.float16))
        manifest.series.append(_entry(name, shape))
    save_manifest(root, manifest)
    return root


def _entry(name: str, shape: tuple[int, int, int]) -> SeriesEntry:
    each = SliceEntry(noise_hu=NOISE_HU, noise_table=[NOISE_HU] * len(table_cutoffs()))
    return SeriesEntry(
        series=name, patient=name, split="train", shape=shape, pixel_mm=0.7, cutoff=1.2,
        slices=[each] * shape[0],
    )  # fmt: skip


def warm_steps(steps: int) -> int:
    """Return the number of the first steps, which do not count."""
    return min(MAX_WARM_STEPS, steps // 2)


def write_recipe(options: argparse.Namespace, path: Path) -> Path:
    """Write the recipe with the size of the run, without validation and checkpoints.

    The last of the steps that do not count is journalled, for which a fit waits until the device
    has done it.
    """
    values: dict[str, Any] = yaml.safe_load(_recipe_file(options.recipe).read_text("utf-8"))
    values["fit"]["steps"] = options.steps
    values["validation"] = {"batches": 0}
    values["journal"] = {"save_seconds": 3600.0, "log_every": max(1, warm_steps(options.steps))}
    for name in ("batch", "crop"):
        if getattr(options, name) is not None:
            values["data"][name] = getattr(options, name)
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def _recipe_file(name: str) -> Path:
    load_recipe(name)  # says what is wrong with it
    return Path(name) if name.endswith(".yaml") else REPOSITORY / f"config/train/{name}.yaml"


def measured(
    code: str, checkout: Path, recipe: Path, data: Path, options: argparse.Namespace
) -> Run:
    """Fit once by the code of a checkout."""
    with tempfile.TemporaryDirectory() as folder:
        words = [recipe, data, Path(folder) / "run", options.init or "", options.device]
        words += [warm_steps(options.steps), "compiled" if code == COMPILED else ""]
        done = subprocess.run(
            [sys.executable, "-c", TIMED, *map(str, words)], cwd=checkout, capture_output=True,
            text=True, check=False, env={**os.environ, "PYTHONPATH": str(checkout)},
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"The fit by {code} failed:\n{done.stderr}")
    seconds, processor = map(float, done.stdout.split("measured")[1].split())
    return Run(code, seconds, processor)


def report(runs: Sequence[Run]) -> str:
    """Format medians of each code and their ratios to the first."""
    codes = list(dict.fromkeys(run.code for run in runs))
    found = {
        code: [
            median([getattr(run, name) for run in runs if run.code == code])
            for name in ("seconds", "processor")
        ]
        for code in codes
    }
    first = found[codes[0]]
    rows = [
        [code, f"{1000 * seconds:.1f}", f"{seconds / first[0]:.3f}",
         f"{1000 * processor:.1f}", f"{processor / first[1]:.3f}"]
        for code, (seconds, processor) in found.items()
    ]  # fmt: skip
    ratio = f"÷ {codes[0]}"
    return table(["code", "ms a step", ratio, "processor ms a step", ratio], rows)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--before", type=Path, help="another checkout of the product")
    parser.add_argument("--recipe", default="redcnn", help="name or YAML file")
    parser.add_argument("--init", help="run or model to start from; man for man-restoration")
    parser.add_argument("--data", type=Path, help="training set; default: one is generated")
    parser.add_argument("--pixels", type=int, default=512, help="side of generated slices")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--steps", type=at_least(2), default=80, help="steps of a run; default: 80")
    parser.add_argument("--batch", type=at_least(1), help="crops in a step; as the recipe says")
    parser.add_argument("--crop", type=at_least(1), help="side of a crop; as the recipe says")
    parser.add_argument(
        "--rounds", type=at_least(1), default=3, help="runs of each code; default: 3"
    )
    parser.add_argument("--compile", action="store_true", help="also with compiled networks")
    parser.add_argument("--json", type=Path, help="file for every run and the machine")
    options = parser.parse_args(arguments)
    if options.before and not (options.before / "training").is_dir():
        parser.error(f"{options.before} is not a source tree of this product.")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its table."""
    options = parsed(arguments)
    codes = {BEFORE: options.before.resolve()} if options.before else {}
    codes |= {NOW: REPOSITORY} | ({COMPILED: REPOSITORY} if options.compile else {})
    with tempfile.TemporaryDirectory() as folder:
        recipe = write_recipe(options, Path(folder) / "recipe.yaml")
        data = (
            options.data.resolve()
            if options.data
            else make_set(Path(folder) / "set", options.pixels)
        )
        runs = [
            measured(code, checkout, recipe, data, options)
            for _ in range(options.rounds)
            for code, checkout in codes.items()
        ]
    write(report(runs))
    if options.json:
        content = {"machine": hardware(), "runs": [asdict(run) for run in runs]}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
