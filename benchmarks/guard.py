"""Findings of the guard for a model, blurs, lost and invented lesions, and a perfect result.

``python -m benchmarks.guard --data SET`` takes each case of the validation split and prints the
values of every check beside its limits, as in docs/guard.md. Limits are right when the model and
the perfect result (the full dose itself) are ok and the others are not.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import table, write
from man_core import (
    Check,
    Denoiser,
    Finding,
    GuardLimits,
    Verdict,
    denoise_volume,
    load_denoiser,
    series_seed,
)
from man_core.filters import gaussian
from man_core.guard import worst
from man_core.guard.inspection import inspect
from training.evaluate.cases import Case, Wanted, cases

BLURS = (0.65, 1.5)
"""Gaussian blurs, pixels: the best by PSNR on quarter dose, and one that no reader would accept."""

LESION_MM, LESION_HU = 8.0, 80.0
SEED = 11

Hu = np.ndarray
Judged = tuple[Finding, ...]


def results(case: Case, denoiser: Denoiser) -> Iterator[tuple[str, Hu, Hu]]:
    """Yield (name, source, result)."""
    source = case.low.hu
    seed = series_seed(case.name, denoiser.info.digest)
    result, _ = denoise_volume(case.low, denoiser, case.condition, seed=seed, limits=None)
    denoised = result.hu
    yield denoiser.info.name, source, denoised
    yield "identity", source, source
    yield "perfect", source, case.full
    for sigma in BLURS:
        blurred = gaussian(torch.from_numpy(source.copy()), sigma).numpy()
        yield f"Gaussian {sigma:g}", source, blurred
    lesion = planted(denoised, case.low.spacing_mm[1])
    yield "lesion lost", source + lesion, denoised
    yield "lesion invented", source, denoised + lesion


def planted(hu: Hu, pixel_mm: float) -> Hu:
    """Make a disc at a random place in the soft tissue of the first slice."""
    smooth = gaussian(torch.from_numpy(hu[:1].copy()), 3.0).numpy()[0]
    rows, columns = np.nonzero((smooth > 0.0) & (smooth < 120.0))
    lesion = np.zeros_like(hu)
    if len(rows):
        place = np.random.default_rng(SEED).integers(len(rows))
        y, x = np.mgrid[: hu.shape[1], : hu.shape[2]]
        distance = np.hypot(y - rows[place], x - columns[place])
        lesion[0] = LESION_HU * np.clip(LESION_MM / pixel_mm / 2.0 + 0.5 - distance, 0.0, 1.0)
    return lesion


def measure(found: Iterator[Case], denoiser: Denoiser) -> dict[str, list[Judged]]:
    """Collect the findings of the guard by result."""
    judged: dict[str, list[Judged]] = {}
    for case in found:
        seconds = 0.0
        for name, source, result in results(case, denoiser):
            begin = time.process_time()
            judged.setdefault(name, []).append(inspect(case.low.with_hu(source), result))
            seconds += time.process_time() - begin
        slices = len(case.low.hu) * len(judged)
        write(f"{case.name} at dose {case.dose:g}: {1000 * seconds / slices:.0f} CPU ms a slice")
    return judged


def show(judged: dict[str, list[Judged]]) -> None:
    """Print verdicts, then the values of each check beside its limits."""
    rows = []
    for name, series in judged.items():
        verdicts = [worst(findings) for findings in series]
        rows.append([name, *(str(verdicts.count(verdict)) for verdict in Verdict)])
    write(table(["result", *Verdict], rows))
    limits = GuardLimits()
    rows = []
    for check in list(Check)[2:]:
        limit = getattr(limits, check.value)
        largest = [_largest(series, check) for series in judged.values()]
        rows.append([check.value, f"{limit.flag:g}, {limit.block:g}", *largest])
    write(table(["check", "flag, block", *judged], rows))


def _largest(series: Sequence[Judged], check: Check) -> str:
    """Return minimum and maximum magnitude over the series."""
    values = [
        abs(finding.value)
        for findings in series
        for finding in findings
        if finding.check is check and finding.value is not None
    ]
    return f"{min(values):.2f} to {max(values):.2f}" if values else ""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="benchmarks.guard", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="prepared set, or DICOM folder")
    parser.add_argument("--full", type=Path, help="full-dose partners of a low-dose DICOM folder")
    parser.add_argument("--model", default="man")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--doses", type=float, nargs="+", default=[1.0, 0.25, 0.1])
    parser.add_argument("--slices", type=int, default=4, help="at most so many of a series")
    options = parser.parse_args()
    wanted = Wanted(doses=tuple(options.doses), slices=options.slices)
    denoiser = load_denoiser(options.model, device=options.device)
    show(measure(cases(options.data, options.full, wanted), denoiser))


if __name__ == "__main__":
    main()
