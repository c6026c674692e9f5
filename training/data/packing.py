"""Places of a batch as numbers, so that processes can draw them and a device can cut the crops.

A device holds the slices of a split in flat arrays; a number here is an index of such an array.
Without torch, as ``places``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.manifest import SeriesEntry
from training.data.place import Place
from training.data.places import Places
from training.settings import DataSettings

NOT_SMOOTHED = -1
"""Kernel of a crop whose full dose is not smoothed."""

INTEGERS = (
    "full", "low", "noise", "rows", "columns", "low_columns", "row", "column", "opposite_row",
    "opposite_column", "cutoff", "kernel", "symmetry", "back",
)  # fmt: skip
"""``full``, ``low``, ``noise``: first element of the slice in its array; ``rows``, ``columns``,
``low_columns``: sizes of these slices; then as in ``Place``; ``back``: number in the group order
of the crop that comes at this position of the batch."""

SIDES = (("first_full", "first_low", "first_noise"), ("last_full", "last_low", "last_noise"))
"""``full``, ``low`` and ``noise`` of the slices beside, which follow if the recipe has
``context_slices``."""

REALS = ("amplitude", "grain", "dose", "noise_hu", "top", "left", "bottom", "right")
"""``amplitude`` and ``grain`` are factors of the simulated noise image."""


@dataclass(frozen=True)
class PackedPlaces:
    """Places of a batch, ordered by groups of the same stride.

    Attributes:
        integers: int64 [field of ``INTEGERS`` and ``SIDES``, crop].
        reals: float32 [field of ``REALS``, crop].
        groups: (stride, number of crops) of each group.
    """

    integers: NDArray[np.int64]
    reals: NDArray[np.float32]
    groups: tuple[tuple[int, int], ...]


class Packer:
    """Numbers of the places of a split, and the layout of the arrays that they point into.

    Args:
        places: Drawing of the places.
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        every = [e for es in (*places.patients.values(), *places.pairs.values()) for e in es]
        partners = [places.full_series(e) for e in every]
        self.series = list({e.series: e for e in (*every, *partners)}.values())
        self.noisy = [e for es in places.patients.values() for e in es]
        self._pixels = _offsets(self.series, 1)
        self._noise = _offsets(self.noisy, places.copies)

    @property
    def elements(self) -> tuple[int, int]:
        """Number of elements of all slices and of all noise images."""
        pixels = sum(_size(e) for e in self.series)
        return pixels, self.places.copies * sum(_size(e) for e in self.noisy)

    def packed(self, index: int) -> PackedPlaces:
        """Draw batch number ``index``."""
        drawn = self.places.drawn(index)
        order = sorted(range(len(drawn)), key=lambda i: drawn[i].stride)
        places = [drawn[i] for i in order]
        back = np.argsort(order)
        integers = [self._integers(p, int(b)) for p, b in zip(places, back, strict=True)]
        reals = [self._reals(p) for p in places]
        groups = groupby(p.stride for p in places)
        return PackedPlaces(
            np.array(integers, dtype=np.int64).T.copy(),
            np.array(reals, dtype=np.float32).T.copy(),
            tuple((stride, len(list(members))) for stride, members in groups),
        )

    def _integers(self, place: Place, back: int) -> tuple[int, ...]:
        full, _ = self.places.full_of(place)
        beside = (self._slices(one) for one in self.places.beside(place))
        return (
            *self._slices(place),
            full.shape[1],
            full.shape[2],
            place.entry.shape[2],
            place.row,
            place.column,
            place.opposite.row,
            place.opposite.column,
            place.cutoff,
            NOT_SMOOTHED if place.kernel is None else place.kernel,
            place.symmetry,
            back,
            *chain.from_iterable(beside),
        )

    def _slices(self, place: Place) -> tuple[int, int, int]:
        """Return the first elements of full dose, low dose and noise of a place's slice."""
        full, index = self.places.full_of(place)
        plane = full.shape[1] * full.shape[2]
        copy = place.copy * len(full.slices) + index
        return (
            self._pixels[full.series] + index * plane,
            self._pixels[place.entry.series]
            + place.slice_index * place.entry.shape[1] * place.entry.shape[2],
            self._noise[full.series] + copy * plane,
        )

    def _reals(self, place: Place) -> tuple[float, ...]:
        noisy = place.amplitude > 0 or place.grain > 0
        simulated = place.simulated_hu if noisy else 1.0
        factors = (place.amplitude / simulated, place.grain / simulated)
        return (*factors, place.dose, place.low_noise_hu, *self.places.position(place))


def _size(entry: SeriesEntry) -> int:
    slices, rows, columns = entry.shape
    return slices * rows * columns


def _offsets(series: list[SeriesEntry], copies: int) -> dict[str, int]:
    """Return the first element of each series in a flat array of all."""
    starts = np.cumsum([0, *(copies * _size(e) for e in series)])
    return {e.series: int(start) for e, start in zip(series, starts, strict=False)}


class _Process:
    """Packer of this process."""

    packer: Packer


def prepare_process(root: Path, data: DataSettings, seed: int, split: str) -> None:
    """Prepare a process that only draws places."""
    _Process.packer = Packer(Places(root, data, seed, split))


def packed_by_process(index: int) -> PackedPlaces:
    """Draw batch number ``index`` in a prepared process."""
    return _Process.packer.packed(index)
