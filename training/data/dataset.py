"""Batches of crops on the CPU, each a pure function of seed and number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.batch import Batch
from training.data.manifest import SeriesEntry, noise_file, slices_file
from training.data.place import Place, transform
from training.data.places import Places
from training.data.texture import apodise, smoothed
from training.settings import DataSettings

MARGIN_PIXELS = 16  # around a crop of noise: the filters reach no further

Pixels = NDArray[np.float32]


class CropSource:
    """Crops of one split of a set.

    Args:
        root: Folder of the set.
        data: Sampling of crops.
        seed: Seed of all draws.
        split: ``train``, ``validation`` or ``test``.

    Raises:
        TrainingError: As ``Places``.
    """

    def __init__(self, root: Path, data: DataSettings, seed: int, split: str) -> None:
        self.root = root
        self.data = data
        self.places = Places(root, data, seed, split)

    def batch(self, index: int) -> Batch:
        """Return batch number ``index``: full-dose and low-dose crops in HU."""
        places = self.places.drawn(index)
        positions = [self.places.position(p) for p in places]
        full, low = self._pairs(places)
        beside = [self.places.beside(p) for p in places]
        sides = [self._pairs(list(side))[1] for side in zip(*beside, strict=True)]
        return Batch(
            full=_tensor(places, full),
            low=_tensor(places, low),
            dose=torch.tensor([p.dose for p in places], dtype=torch.float32),
            position=torch.tensor(positions, dtype=torch.float32),
            noise_hu=torch.tensor([p.low_noise_hu for p in places], dtype=torch.float32),
            neighbours=torch.cat([_tensor(places, s) for s in sides], dim=1) if sides else None,
        )

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

    def _full_dose(self, places: list[Place]) -> Pixels:
        """Read full-dose crops [batch, row, column]; filter some to a smoother kernel."""
        full = np.stack([self._pixels(p, *self.places.full_of(p)) for p in places])
        kernels = {i: p.kernel for i, p in enumerate(places) if p.kernel is not None}
        if kernels:
            chosen = [places[i] for i in kernels]
            wide = np.stack([self._wide(slices_file(self.root, p.entry.series), p) for p in chosen])
            cutoffs = np.array([p.cutoff for p in chosen])
            full[list(kernels)] = _inner(smoothed(wide, np.array(list(kernels.values())), cutoffs))
        return full

    def _pixels(self, place: Place, entry: SeriesEntry, index: int) -> Pixels:
        """Read the pixels of a place from a slice of a series."""
        rows, columns = place.window
        array = self.places.arrays[slices_file(self.root, entry.series)]
        pixels: Pixels = array[index, rows, columns].astype(np.float32)
        return pixels

    def _low(self, places: list[Place], full: Pixels) -> Pixels:
        low = full.copy()
        real = [i for i, p in enumerate(places) if p.entry.full_series]
        for i in real:
            low[i] = self._pixels(places[i], places[i].entry, places[i].slice_index)
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
        array = self.places.arrays[path]
        rows, columns = (
            _mirrored(start - MARGIN_PIXELS, place.edge + 2 * MARGIN_PIXELS, n)
            for start, n in zip((place.row, place.column), array.shape[1:], strict=True)
        )
        plane = array[place.slice_index]
        wide: Pixels = plane[rows][:, columns].astype(np.float32)
        return wide


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
