"""Checks of this checkout on a GPU, in at most four minutes, without a network.

``python -m benchmarks.gpu_check`` (or ``make gpu-check``) runs one part after the other and prints
each when it ends. A part whose packages are missing is not run; one that has used up its share of
the time is cut. The exit code is 1 if a part failed or a check did not hold; bars of speed that are
missed do not count.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.gpu_check.part import (
    Bench,
    Budget,
    Outcome,
    OverBudgetError,
    Part,
    Run,
)
from benchmarks.gpu_check.presets import PRESETS
from benchmarks.gpu_check.report import device_name, facts, markdown, write_json
from benchmarks.gpu_check.targets import judged
from benchmarks.machine import at_least, existing_folder, write
from man_core import ModelError
from man_core.device import choose_device

PARTS = (
    Part("agreement", 25),
    Part("determinism", 20),
    Part("memory", 20),
    Part("timing", 45),
    Part("faults", 20),
    Part("files", 25),
    Part("fitting", 65),
)
"""The parts in order; each is the module of its name, with a function ``figures``."""

OWN_PACKAGES = ("benchmarks", "dicom_node", "man_core", "training")


def main(words: Sequence[str] | None = None) -> int:
    """Run the checks; return the exit code."""
    parser = _parser()
    options = parser.parse_args(words)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        device = choose_device(options.device)
    except ModelError as error:
        parser.error(str(error))
    outcomes = _outcomes(options, device)
    verdicts = judged(outcomes, device_name(device), options.preset)
    about = facts(device, options.preset)
    text = markdown(about, outcomes, verdicts)
    write(f"\n{text}")
    if options.json:
        write_json(options.json, about, outcomes, verdicts)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    return int(any(map(_is_bad, outcomes)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or, for a trial, cpu")
    parser.add_argument("--threads", type=at_least(1), help="threads of the CPU; as torch chooses")
    parser.add_argument(
        "--preset", default="full", choices=list(PRESETS), help="sizes; tiny: for a trial on a CPU"
    )
    parser.add_argument(
        "--seconds", type=float, help="time for everything; default: that of the preset"
    )
    names = [part.name for part in PARTS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="PART", help=", ".join(names))
    parser.add_argument("--cards", nargs="*", type=Path, default=[], help="further models")
    parser.add_argument(
        "--folder", type=existing_folder, help="where to write; on the disk that is to be measured"
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--markdown", type=Path, help="file for the table")
    return parser


def _outcomes(options: argparse.Namespace, device: torch.device) -> list[Outcome]:
    preset = PRESETS[options.preset]
    whole = Budget(preset.seconds if options.seconds is None else options.seconds)
    chosen = [part for part in PARTS if part.name in (options.only or part.name)]
    outcomes = []
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="gpu-check-") as name:
        for at, part in enumerate(chosen):
            share = part.share / sum(later.share for later in chosen[at:])
            folder = Path(name) / part.name
            folder.mkdir()
            budget = Budget(max(0.0, whole.left * share))
            bench = Bench(device, preset, options.cards, folder, budget)
            outcomes.append(_outcome(part, bench))
            write(_line(outcomes[-1]))
            if device.type == "cuda":
                torch.cuda.empty_cache()
    return outcomes


def _outcome(part: Part, bench: Bench) -> Outcome:
    """Run a part; whatever happens in it, the next one can run."""
    outcome = Outcome(part.name, budget_seconds=round(bench.budget.seconds, 1))
    begin = time.perf_counter()
    try:
        bench.budget.check()
        run: Run = importlib.import_module(f"benchmarks.gpu_check.{part.name}").figures
        for figure in run(bench):
            outcome.figures.append(figure)
    except OverBudgetError:
        outcome.state, outcome.reason = "cut", "its time was used up"
    except Exception as error:
        outcome.state, outcome.reason = _state_of(error)
    outcome.seconds = round(time.perf_counter() - begin, 2)
    return outcome


def _state_of(error: Exception) -> tuple[str, str]:
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        package = error.name.partition(".")[0]
        if package not in OWN_PACKAGES:
            return "not run", f"the package {package} is not installed"
    write("".join(traceback.format_exception(error)))
    first = (str(error).splitlines() or [""])[0]
    return "failed", f"{type(error).__name__}: {first}"


def _is_bad(outcome: Outcome) -> bool:
    return outcome.state == "failed" or any(one.passed is False for one in outcome.figures)


def _line(outcome: Outcome) -> str:
    wrong = [figure.name for figure in outcome.figures if figure.passed is False]
    said = f", not so: {', '.join(wrong)}" if wrong else ""
    reason = f" ({outcome.reason})" if outcome.reason else ""
    return (
        f"{outcome.name:<12} {outcome.state}{reason}, {len(outcome.figures)} figures,"
        f" {outcome.seconds:.1f} s of {outcome.budget_seconds:.0f}{said}"
    )
