"""Simulation of noise images for a training set, so that training needs no back-projection.

Back-projection is linear and the apodisation of a kernel is a filter in the image plane. One noise
image per slice, with the plain ramp, therefore gives low dose of any dose and texture later:
filter, scale, add (Yu 2012; ``man_core.physics.low_dose``).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from man_core.physics.low_dose import matched_noise, shape_noise_each, tissue_mask
from training.data.device import device_named
from training.data.manifest import (
    Manifest,
    SeriesEntry,
    SliceEntry,
    load_manifest,
    noise_file,
    save_manifest,
    slices_file,
)
from training.data.processes import process_pool
from training.data.texture import CUTOFFS, table_cutoffs
from training.errors import TrainingError

REFERENCE_DOSE = 0.25
"""Dose at which ray noise is drawn; other doses scale it (except for the electronic noise)."""

MAX_FLOAT16_HU = 65_000.0  # the maximum of float16 is 65504

SLICES_AT_ONCE = 8
"""Slices that share a pass of projection and back-projection. On a CPU, 8 of 512 x 512 take 0.64
GiB and a third less processor time than one at a time (0.13 GiB)."""


@dataclass(frozen=True)
class _Part:
    """One series to simulate, passed to another process."""

    root: Path
    entry: SeriesEntry
    copy: int
    seed: int
    device: str


def simulate(
    root: Path,
    *,
    copies: int = 1,
    processes: int = 1,
    seed: int = 0,
    device: str = "cpu",
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Simulate the noise of every full-dose slice that has none yet.

    Series with noise are skipped, so that an interrupted run continues. Random numbers are drawn
    on the CPU, so that every device makes the same noise, but for rounding; the number of processes
    makes no difference at all.

    Args:
        root: Folder of the set.
        copies: Independent noise images per slice.
        processes: Number of processes.
        seed: Seed of all random numbers.
        device: ``auto``, ``cpu`` or ``cuda``; on a GPU several processes share it, while each
            prepares its slices on a core.
        on_progress: Callback with (slices done, total slices).

    Returns:
        Number of slices simulated.

    Raises:
        TrainingError: The folder is not a training set, there is no such device, or a process was
            ended.
    """
    place = str(device_named(device))
    manifest = load_manifest(root)
    (root / "noise").mkdir(exist_ok=True)
    parts = [
        _Part(root, entry, copy, seed, place) for entry, copy in _missing(root, manifest, copies)
    ]
    total = sum(len(part.entry.slices) for part in parts)
    done = 0
    with closing(_each(parts, processes)) as finished:
        for part, tables in finished:
            if part.copy == 0:
                _note_tables(root, manifest, part.entry, tables)
            done += len(part.entry.slices)
            if on_progress:
                on_progress(done, total)
    return done


def _missing(root: Path, manifest: Manifest, copies: int) -> Iterator[tuple[SeriesEntry, int]]:
    """Yield full-dose series and number of each noise image that is still to be simulated."""
    for entry in manifest.series:
        if entry.full_series is None:
            yield from ((entry, copy) for copy in range(copies) if not _done(root, entry, copy))


def _each(
    parts: list[_Part], processes: int
) -> Generator[tuple[_Part, list[list[float]]], None, None]:
    """Yield every part with its tables, in order of completion."""
    if processes == 1:
        with _single_thread():
            yield from ((part, _simulate_series(part)) for part in parts)
        return
    with process_pool(processes, torch.set_num_threads, 1) as pool:
        jobs = {pool.submit(_simulate_series, part): part for part in parts}
        for job in as_completed(jobs):
            yield jobs[job], _tables(job)


@contextmanager
def _single_thread() -> Iterator[None]:
    """Compute in one thread, as each of several processes does: sums depend on the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _tables(job: Future[list[list[float]]]) -> list[list[float]]:
    try:
        return job.result()
    except BrokenProcessPool as error:
        raise TrainingError(
            "A process of the simulation was ended from outside, perhaps for lack of memory; run "
            "the same command again, if need be with fewer --processes: finished series are kept."
        ) from error


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
    """Write the noise of one series; return the table of amplitudes of each slice.

    All copies have the table of the first.
    """
    entry = part.entry
    volume = np.load(slices_file(part.root, entry.series), mmap_mode="r")
    path = noise_file(part.root, entry.series, part.copy)
    stored = np.empty(entry.shape, dtype=np.float16)
    tables = []
    for first in range(0, len(volume), SLICES_AT_ONCE):
        indices = range(first, min(first + SLICES_AT_ONCE, len(volume)))
        hu = torch.from_numpy(volume[indices.start : indices.stop].astype(np.float32))
        noise = _noise(hu.to(part.device), part, indices)
        stored[indices.start : indices.stop] = (
            noise.clamp(-MAX_FLOAT16_HU, MAX_FLOAT16_HU).cpu().numpy()
        )
        if part.copy == 0:
            tables += [amplitudes(n, h) for n, h in zip(noise[:, None], hu[:, None], strict=True)]
    partial = path.with_suffix(".part.npy")
    np.save(partial, stored)
    partial.replace(path)
    return tables


def _noise(hu: torch.Tensor, part: _Part, indices: range) -> torch.Tensor:
    return matched_noise(
        hu,
        part.entry.pixel_mm,
        dose=REFERENCE_DOSE,
        noise_hu=[part.entry.slices[index].noise_hu for index in indices],
        cutoff=part.entry.cutoff,
        generators=[_generator(part, index) for index in indices],
    )


def amplitudes(noise: torch.Tensor, hu: torch.Tensor) -> list[float]:
    """Measure the standard deviation in soft tissue after apodisation at each cutoff of the table.

    Args:
        noise: Plain-ramp noise [1, row, column], HU.
        hu: Slice [1, row, column] on the CPU, HU.
    """
    tissue = tissue_mask(hu).flatten().nonzero().flatten().to(noise.device)
    cutoffs = [CUTOFFS[index] for index in table_cutoffs()]
    shaped = shape_noise_each(noise, cutoffs)
    found = [one.flatten()[tissue].square().mean().sqrt() for one in shaped]
    amplitude: list[float] = torch.stack(found).tolist()
    return amplitude


def _generator(part: _Part, index: int) -> torch.Generator:
    """Seed each slice separately, independent of the order of processing."""
    words = np.random.SeedSequence([part.seed, int(part.entry.series, 16), part.copy, index])
    return torch.Generator().manual_seed(int(words.generate_state(1, np.uint64)[0] >> 1))
