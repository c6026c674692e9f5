"""Places of the crops of a split, drawn as a pure function of seed and batch number.

Without torch: processes that only draw places start fast and stay small.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from man_core.context import Neighbours, neighbours_of
from training.data.manifest import (
    Manifest,
    SeriesEntry,
    load_manifest,
    noise_file,
    slices_file,
)
from training.data.place import MIRRORED, SYMMETRIES, Place, dosed, transform_position
from training.errors import TrainingError
from training.settings import DataSettings

BODY_HU = -500
BODY_EVERY_PIXELS = 4  # along rows and columns: a sample shows how full a crop is
MAX_DRAWS = 8  # of a place, before an empty crop is accepted


class Arrays:
    """Arrays of a set, mapped into memory when they are first needed."""

    def __init__(self) -> None:
        self._mapped: dict[Path, NDArray[np.generic]] = {}

    def __getitem__(self, path: Path) -> NDArray[np.generic]:
        if path not in self._mapped:
            self._mapped[path] = np.load(path, mmap_mode="r")
        return self._mapped[path]


class Places:
    """Drawing of places; all patients have the same weight.

    Args:
        root: Folder of the set.
        data: Sampling of crops.
        seed: Seed of all draws.
        split: ``train``, ``validation`` or ``test``.

    Raises:
        TrainingError: The split is empty, its slices are smaller than a crop, or its noise has
            not been simulated.
    """

    def __init__(self, root: Path, data: DataSettings, seed: int, split: str) -> None:
        self.root = root
        self.data = data
        self.seed = seed
        self.split = split
        manifest = load_manifest(root)
        self.patients = _by_patient(manifest, split, data.crop)
        self.pairs = _by_patient(manifest, split, data.crop, low=True)
        self._full = {e.series: e for e in manifest.of(split)}
        self.arrays = Arrays()
        self._neighbours: dict[str, Neighbours] = {}
        _check(root, split, self.patients, data.crop)
        self.copies = _copies(root, next(iter(self.patients.values()))[0].series)

    def drawn(self, index: int) -> list[Place]:
        """Draw the places of batch number ``index``."""
        random = np.random.default_rng((self.seed, index))
        return [self._place(random) for _ in range(self.data.batch)]

    def full_series(self, entry: SeriesEntry) -> SeriesEntry:
        """Return the full-dose partner of a series; of a full-dose series itself."""
        return self._full[entry.full_series] if entry.full_series else entry

    def full_of(self, place: Place) -> tuple[SeriesEntry, int]:
        """Return full-dose series and slice of a place: of a real pair those of the partner."""
        full = self.full_series(place.entry)
        if full is place.entry:
            return full, place.slice_index
        matched = place.slice_entry.full_slice
        assert matched is not None
        return full, matched

    def beside(self, place: Place) -> list[Place]:
        """Return the same place in the slices beside it, at the same dose.

        None without ``context_slices``; the place itself where the set has no adjacent slice. A
        mirrored crop swaps below and above, as turning the patient over would.
        """
        if not self.data.context_slices:
            return []
        entry = place.entry
        if entry.series not in self._neighbours:
            positions = [one.position_mm for one in entry.slices]
            self._neighbours[entry.series] = neighbours_of(positions, entry.thickness_mm)
        found = [place.at(index) for index in self._neighbours[entry.series][place.slice_index]]
        return found[::-1] if place.symmetry >= MIRRORED else found

    def position(self, place: Place) -> tuple[float, float, float, float]:
        """Return (top, left, bottom, right) of a turned crop, fractions of its slice."""
        _, rows, columns = place.entry.shape
        corners = (
            place.row / rows,
            place.column / columns,
            (place.row + place.edge) / rows,
            (place.column + place.edge) / columns,
        )
        return transform_position(corners, place.symmetry)

    def _place(self, random: np.random.Generator) -> Place:
        """Draw patient, series, slice, place and low-dose partner; the order of draws is fixed."""
        real = bool(self.pairs) and random.random() < self.data.real_share
        patients = self.pairs if real else self.patients
        series = list(patients.values())[random.integers(len(patients))]
        entry = series[random.integers(len(series))]
        stride = self._stride(entry, random)
        place = Place(
            entry=entry,
            slice_index=int(random.integers(len(entry.slices))),
            row=0,
            column=0,
            symmetry=int(random.integers(SYMMETRIES)),
            dose=entry.dose,
            copy=int(random.integers(self.copies)),
            edge=self.data.crop * stride,
            stride=stride,
        )
        return self._moved(place if real else dosed(place, self.data, random), random)

    def _stride(self, entry: SeriesEntry, random: np.random.Generator) -> int:
        """Draw the number of pixels of the slice per pixel of the crop."""
        share = self.data.coarser_share if min(entry.shape[1:]) >= 2 * self.data.crop else 0.0
        return 2 if share and random.random() < share else 1

    def _moved(self, place: Place, random: np.random.Generator) -> Place:
        """Draw a place that shows enough of the body; the fullest of several if none does."""
        slices = self.arrays[slices_file(self.root, place.entry.series)]
        plane = slices[place.slice_index]
        best, best_share = (0, 0), -1.0
        for _ in range(MAX_DRAWS):
            row, column = (int(random.integers(n - place.edge + 1)) for n in place.entry.shape[1:])
            rows, columns = (slice(n, n + place.edge, BODY_EVERY_PIXELS) for n in (row, column))
            share = float((plane[rows, columns] > BODY_HU).mean())
            if share > best_share:
                best, best_share = (row, column), share
            if share >= self.data.body_share:
                break
        return replace(place, row=best[0], column=best[1])


def _by_patient(
    manifest: Manifest, split: str, crop: int, *, low: bool = False
) -> dict[str, list[SeriesEntry]]:
    found: dict[str, list[SeriesEntry]] = {}
    for entry in manifest.of(split, low=low):
        if min(entry.shape[1:]) >= crop:
            found.setdefault(entry.patient, []).append(entry)
    return found


def _check(root: Path, split: str, patients: dict[str, list[SeriesEntry]], crop: int) -> None:
    if not patients:
        raise TrainingError(
            f"The set {root} contains no slices of at least {crop} pixels in the split {split!r}; "
            f"add some with `man-train prepare … --assign {split}`."
        )
    missing = [e for es in patients.values() for e in es if not _simulated(root, e)]
    if missing:
        raise TrainingError(
            f"The noise of {len(missing)} series of {root} has not been simulated; "
            f"run `man-train simulate {root}`."
        )


def _simulated(root: Path, entry: SeriesEntry) -> bool:
    return noise_file(root, entry.series, 0).is_file() and bool(entry.slices[0].noise_table)


def _copies(root: Path, series: str) -> int:
    copies = 1
    while noise_file(root, series, copies).is_file():
        copies += 1
    return copies
