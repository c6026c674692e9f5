"""Estimated against true dose gain of simulated low doses, as in docs/rules.md.

``python -m benchmarks.auto_gain --data SET`` takes the noise images of ``man-train simulate``. The
noise reference is learned from the full doses of the training patients; the patient of a series
that is judged is always left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import table, write
from man_core import SeriesNoise, gain_for_noise, learn_reference
from man_core.noise import estimate_noise_and_texture, noise_hu_per_slice, sampled_slices
from man_core.physics.low_dose import calibrate, shape_noise, tissue_mask
from training.data.manifest import SeriesEntry, load_manifest, noise_file, slices_file

DOSES = (1.0, 0.25, 0.1)
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
MAX_SLICES = 8


@dataclass(frozen=True)
class Seen:
    """A series with its noise at each dose."""

    entry: SeriesEntry
    noise: dict[float, SeriesNoise]


@dataclass(frozen=True)
class Judged:
    """A gain that was found, relative to the true one, and whether the kernel decided."""

    ratio: float
    patient: str
    by_kernel: bool


def seen(root: Path, left_out: Sequence[str]) -> Iterator[Seen]:
    """Measure each full-dose series of the set, also with noise added."""
    for entry in load_manifest(root).series:
        if entry.series in left_out or entry.full_series is not None:
            continue
        indices = sampled_slices(len(entry.slices))
        chosen = [indices[round(at)] for at in np.linspace(0, len(indices) - 1, MAX_SLICES)]
        chosen = sorted(set(chosen))
        hu = np.load(slices_file(root, entry.series), mmap_mode="r")[chosen].astype(np.float32)
        if not estimate_noise_and_texture(hu).std_hu > 0.0:
            continue
        noise = np.load(noise_file(root, entry.series, 0), mmap_mode="r")[chosen]
        yield Seen(entry, dict(at_doses(entry, hu, noise.astype(np.float32))))


def at_doses(
    entry: SeriesEntry, hu: np.ndarray, noise: np.ndarray
) -> Iterator[tuple[float, SeriesNoise]]:
    """Measure slices [slice, row, column] at each dose."""
    full = torch.from_numpy(hu)
    shaped = shape_noise(torch.from_numpy(noise), estimate_noise_and_texture(hu).cutoff)
    mask, level = tissue_mask(full), torch.from_numpy(noise_hu_per_slice(hu)).float()
    for dose in DOSES:
        added = calibrate(shaped, mask, level * (1.0 / dose - 1.0) ** 0.5) if dose < 1.0 else 0.0
        found = estimate_noise_and_texture((full + added).clamp(min=-1024.0).numpy())
        texture = 0.5 * found.cutoff / entry.pixel_mm
        yield (
            dose,
            SeriesNoise(found.std_hu, texture, entry.thickness_mm, entry.kernel, entry.anatomy),
        )


def judge(series: Sequence[Seen], split: str, dose: float) -> tuple[list[Judged], int]:
    """Judge the series of a split at a dose; also count those that cannot be."""
    found, unjudged = [], 0
    for one in series:
        if one.entry.split != split:
            continue
        reference = learn_reference(
            (other.entry.patient, other.noise[1.0])
            for other in series
            if other.entry.split == "train" and other.entry.patient != one.entry.patient
        )
        noise = one.noise[dose]
        cell = reference.cell_for(noise)
        if cell is None or noise.thickness_mm is None:
            unjudged += 1
            continue
        gain = gain_for_noise(noise.noise_hu, cell.noise_at(noise.thickness_mm))
        found.append(Judged(gain * dose, one.entry.patient, cell.texture_per_mm is None))
    return found, unjudged


def row(name: str, judged: Sequence[Judged], unjudged: str) -> list[str]:
    """Format a row of the table."""
    ratios = np.array([one.ratio for one in judged])
    quantiles = [f"{value:.2f}" for value in np.quantile(ratios, QUANTILES)]
    within = f"{np.mean((ratios >= 0.5) & (ratios <= 2.0)):.0%}"
    patients = str(len({one.patient for one in judged}))
    return [name, str(len(judged)), patients, unjudged, *quantiles, within]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.auto_gain", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="prepared and simulated set")
    parser.add_argument("--without", nargs="*", default=[], help="series to leave out")
    options = parser.parse_args()
    series = list(seen(options.data, options.without))
    rows = []
    for split in ("validation", "train"):
        for dose in DOSES:
            judged, unjudged = judge(series, split, dose)
            rows.append(row(f"{split}, dose {dose:g}", judged, str(unjudged)))
            for name, by_kernel in (("by kernel", True), ("by texture", False)):
                if part := [one for one in judged if one.by_kernel == by_kernel]:
                    rows.append(row(f"  {name}", part, ""))
    head = ("", "judged", "patients", "not", "10 %", "25 %", "50 %", "75 %", "90 %", "within 2")
    write(table(head, rows))


if __name__ == "__main__":
    main()
