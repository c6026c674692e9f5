"""Simulation of noise images for a training set, so that training needs no back-projection.

Back-projection is linear and the apodisation of a kernel is a filter in the image plane. One noise
image per slice, with the plain ramp, therefore gives low dose of any dose and texture later:
filter, scale, add (Yu 2012; ``man_core.physics.low_dose``).
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from man_core.physics.low_dose import broadband_noise, photons_for, shape_noise, tissue_mask
from training.data.manifest import (
    Manifest,
    SeriesEntry,
    SliceEntry,
    load_manifest,
    noise_file,
    save_manifest,
    slices_file,
)
from training.data.texture import CUTOFFS, table_cutoffs

REFERENCE_DOSE = 0.25
"""Dose at which ray noise is drawn; other doses scale it (except for the electronic noise)."""

MAX_FLOAT16_HU = 65_000.0  # the maximum of float16 is 65504


@dataclass(frozen=True)
class _Part:
    """One series to simulate, passed to another process."""

    root: Path
    entry: SeriesEntry
    copy: int
    seed: int


def simulate(
    root: Path,
    *,
    copies: int = 1,
    processes: int = 1,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Simulate the noise of every full-dose slice that has none yet.

    Series with noise are skipped, so that an interrupted run continues.

    Args:
        root: Folder of the set.
        copies: Independent noise images per slice.
        processes: Number of processes.
        seed: Seed of all random numbers.
        on_progress: Callback with (slices done, total slices).

    Returns:
        Number of slices simulated.

    Raises:
        TrainingError: The folder is not a training set.
    """
    manifest = load_manifest(root)
    (root / "noise").mkdir(exist_ok=True)
    parts = [
        _Part(root, entry, copy, seed)
        for entry in manifest.series
        for copy in range(copies)
        if entry.full_series is None and not _done(root, entry, copy)
    ]
    total = sum(len(part.entry.slices) for part in parts)
    done = 0
    for part, tables in _each(parts, processes):
        if part.copy == 0:
            _note_tables(root, manifest, part.entry, tables)
        done += len(part.entry.slices)
        if on_progress:
            on_progress(done, total)
    return done


def _each(parts: list[_Part], processes: int) -> Iterator[tuple[_Part, list[list[float]]]]:
    """Yield every part with its tables, in order of completion."""
    if processes == 1:
        yield from ((part, _simulate_series(part)) for part in parts)
        return
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_one_thread) as pool:
        jobs = {pool.submit(_simulate_series, part): part for part in parts}
        for job in as_completed(jobs):
            yield jobs[job], job.result()


def _one_thread() -> None:
    torch.set_num_threads(1)


def _done(root: Path, entry: SeriesEntry, copy: int) -> bool:
    has_table = all(s.noise_table for s in entry.slices)
    return noise_file(root, entry.series, copy).is_file() and has_table


def _note_tables(
    root: Path, manifest: Manifest, entry: SeriesEntry, tables: list[list[float]]
) -> None:
    slices = [
        SliceEntry.model_validate(s.model_dump() | {"noise_table": table})
        for s, table in zip(entry.slices, tables, strict=True)
    ]
    place = next(i for i, e in enumerate(manifest.series) if e.series == entry.series)
    manifest.series[place] = entry.model_copy(update={"slices": slices})
    save_manifest(root, manifest)


def _simulate_series(part: _Part) -> list[list[float]]:
    """Write the noise of one series; return the table of amplitudes of each slice."""
    entry = part.entry
    volume = np.load(slices_file(part.root, entry.series), mmap_mode="r")
    path = noise_file(part.root, entry.series, part.copy)
    stored = np.empty(entry.shape, dtype=np.float16)
    tables = []
    for index in range(len(volume)):
        hu = torch.from_numpy(volume[index : index + 1].astype(np.float32))
        noise = _noise(hu, entry, entry.slices[index], _generator(part, index))
        stored[index] = noise[0].clamp(-MAX_FLOAT16_HU, MAX_FLOAT16_HU).numpy()
        tables.append(amplitudes(noise, hu))
    partial = path.with_suffix(".part.npy")
    np.save(partial, stored)
    partial.replace(path)
    return tables


def _noise(
    hu: torch.Tensor, entry: SeriesEntry, described: SliceEntry, generator: torch.Generator
) -> torch.Tensor:
    photons = photons_for(hu, entry.pixel_mm, noise_hu=described.noise_hu, cutoff=entry.cutoff)
    return broadband_noise(
        hu, entry.pixel_mm, dose=REFERENCE_DOSE, photons=photons, generator=generator
    )


def amplitudes(noise: torch.Tensor, hu: torch.Tensor) -> list[float]:
    """Measure the standard deviation in soft tissue after apodisation at each cutoff of the table.

    Args:
        noise: Plain-ramp noise [1, row, column], HU.
        hu: Slice [1, row, column], HU.
    """
    tissue = tissue_mask(hu)
    return [
        float(shape_noise(noise, CUTOFFS[index])[tissue].square().mean().sqrt())
        for index in table_cutoffs()
    ]


def _generator(part: _Part, index: int) -> torch.Generator:
    """Seed each slice separately, independent of the order of processing."""
    words = np.random.SeedSequence([part.seed, int(part.entry.series, 16), part.copy, index])
    return torch.Generator().manual_seed(int(words.generate_state(1, np.uint64)[0] >> 1))
