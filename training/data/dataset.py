"""Batches of crops, each a pure function of seed and number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.batch import Batch
from training.data.manifest import (
    Manifest,
    SeriesEntry,
    load_manifest,
    noise_file,
    slices_file,
)
from training.data.place import SYMMETRIES, Place, dosed, transform, transform_position
from training.data.texture import apodise, smoothed
from training.errors import TrainingError
from training.settings import DataSettings

MARGIN_PIXELS = 16  # around a crop of noise: the filters reach no further
BODY_HU = -500.0
MAX_DRAWS = 8  # of a place, before an empty crop is accepted

Pixels = NDArray[np.float32]


class CropSource:
    """Crops of one split of a set; all patients have the same weight.

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
        self.manifest = load_manifest(root)
        self.patients = _by_patient(self.manifest, split, data.crop)
        self.pairs = _by_patient(self.manifest, split, data.crop, low=True)
        self._full = {e.series: e for e in self.manifest.of(split)}
        self._arrays: dict[Path, NDArray[np.generic]] = {}
        _check(root, split, self.patients, data.crop)
        self.copies = _copies(root, next(iter(self.patients.values()))[0].series)

    def batch(self, index: int) -> Batch:
        """Return batch number ``index``: full-dose and low-dose crops in HU."""
        random = np.random.default_rng((self.seed, index))
        places = [self._place(random) for _ in range(self.data.batch)]
        full, low = self._pairs(places)
        return Batch(
            full=_tensor(places, full),
            low=_tensor(places, low),
            dose=torch.tensor([p.dose for p in places], dtype=torch.float32),
            position=torch.tensor([self._position(p) for p in places], dtype=torch.float32),
            noise_hu=torch.tensor([p.low_noise_hu for p in places], dtype=torch.float32),
        )

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
        best, best_share = place, -1.0
        for _ in range(MAX_DRAWS):
            row, column = (int(random.integers(n - place.edge + 1)) for n in place.entry.shape[1:])
            candidate = replace(place, row=row, column=column)
            share = float((self._pixels(candidate, place.entry)[::4, ::4] > BODY_HU).mean())
            if share > best_share:
                best, best_share = candidate, share
            if share >= self.data.body_share:
                break
        return best

    def _pairs(self, places: list[Place]) -> tuple[Pixels, Pixels]:
        """Make full and low dose [batch, row, column] of every ``stride``-th pixel."""
        full, low = np.empty((2, len(places), self.data.crop, self.data.crop), dtype=np.float32)
        for stride in {p.stride for p in places}:
            chosen = [i for i, p in enumerate(places) if p.stride == stride]
            group = [places[i] for i in chosen]
            dense = self._grained(group, self._full_dose(group))
            full[chosen] = dense[:, ::stride, ::stride]
            low[chosen] = self._low(group, dense)[:, ::stride, ::stride]
        return full, low

    def _full_of(self, place: Place) -> SeriesEntry:
        full = place.entry.full_series
        return self._full[full] if full else place.entry

    def _full_dose(self, places: list[Place]) -> Pixels:
        """Read full-dose crops [batch, row, column]; filter some to a smoother kernel."""
        full = np.stack([self._pixels(p, self._full_of(p)) for p in places])
        kernels = {i: p.kernel for i, p in enumerate(places) if p.kernel is not None}
        if kernels:
            chosen = [places[i] for i in kernels]
            wide = np.stack([self._wide(slices_file(self.root, p.entry.series), p) for p in chosen])
            cutoffs = np.array([p.cutoff for p in chosen])
            full[list(kernels)] = _inner(smoothed(wide, np.array(list(kernels.values())), cutoffs))
        return full

    def _pixels(self, place: Place, entry: SeriesEntry) -> Pixels:
        index = place.slice_index
        if entry is not place.entry:
            matched = place.entry.slices[index].full_slice
            assert matched is not None
            index = matched
        rows, columns = place.window
        array = self._array(slices_file(self.root, entry.series))
        pixels: Pixels = array[index, rows, columns].astype(np.float32)
        return pixels

    def _low(self, places: list[Place], full: Pixels) -> Pixels:
        low = full.copy()
        real = [i for i, p in enumerate(places) if p.entry.full_series]
        for i in real:
            low[i] = self._pixels(places[i], places[i].entry)
        noisy = [i for i, p in enumerate(places) if p.amplitude > 0]
        if noisy:
            chosen = [places[i] for i in noisy]
            low[noisy] += self._noise(chosen, [p.amplitude for p in chosen])
        return low

    def _grained(self, places: list[Place], full: Pixels) -> Pixels:
        """Add grain to full dose: noise of the opposite place of the slice, turned by 180°."""
        grained = [i for i, p in enumerate(places) if p.grain > 0]
        if grained:
            chosen = [places[i] for i in grained]
            noise = self._noise([p.opposite for p in chosen], [p.grain for p in chosen])
            full[grained] += noise[:, ::-1, ::-1]
        return full

    def _noise(self, places: list[Place], amplitudes: list[float]) -> Pixels:
        """Make noise [batch, row, column] in HU of the drawn texture and given amplitudes."""
        files = [noise_file(self.root, p.entry.series, p.copy) for p in places]
        plain = np.stack([self._wide(file, p) for file, p in zip(files, places, strict=True)])
        shaped = apodise(plain, np.array([p.cutoff for p in places]))
        scale = [a / p.simulated_hu for p, a in zip(places, amplitudes, strict=True)]
        scaled: Pixels = _inner(shaped) * np.array(scale, dtype=np.float32)[:, None, None]
        return scaled

    def _wide(self, path: Path, place: Place) -> Pixels:
        """Read a crop and its margin from an array of slices, mirrored at the slice's edges."""
        array = self._array(path)
        rows, columns = (
            _mirrored(start - MARGIN_PIXELS, place.edge + 2 * MARGIN_PIXELS, n)
            for start, n in zip((place.row, place.column), array.shape[1:], strict=True)
        )
        plane = array[place.slice_index]
        wide: Pixels = plane[rows][:, columns].astype(np.float32)
        return wide

    def _position(self, place: Place) -> tuple[float, float, float, float]:
        _, rows, columns = place.entry.shape
        corners = (
            place.row / rows,
            place.column / columns,
            (place.row + place.edge) / rows,
            (place.column + place.edge) / columns,
        )
        return transform_position(corners, place.symmetry)

    def _array(self, path: Path) -> NDArray[np.generic]:
        if path not in self._arrays:
            self._arrays[path] = np.load(path, mmap_mode="r")
        return self._arrays[path]


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


def _inner(wide: Pixels) -> Pixels:
    """Cut the margin off crops [batch, row, column]."""
    return wide[:, MARGIN_PIXELS:-MARGIN_PIXELS, MARGIN_PIXELS:-MARGIN_PIXELS]


def _mirrored(start: int, length: int, limit: int) -> NDArray[np.intp]:
    """Return indices start … start + length - 1, mirrored at 0 and at limit."""
    index = np.abs(np.arange(start, start + length))
    return np.where(index < limit, index, 2 * limit - 2 - index)


def _tensor(places: list[Place], crops: Pixels) -> torch.Tensor:
    turned = [transform(crop, p.symmetry) for crop, p in zip(crops, places, strict=True)]
    return torch.from_numpy(np.stack(turned)[:, None])
