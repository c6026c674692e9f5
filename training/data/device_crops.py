"""Batches of crops made on a device that holds the slices: equal to ``CropSource``'s.

The host draws places only. The device cuts windows, filters them in the frequency plane, adds the
noise and turns them, in the same order as ``CropSource``, so that values differ by rounding only.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.batch import Batch
from training.data.dataset import MARGIN_PIXELS
from training.data.manifest import SeriesEntry, noise_file, slices_file
from training.data.packing import INTEGERS, NOT_SMOOTHED, REALS, SIDES, PackedPlaces, Packer
from training.data.place import SYMMETRIES, transform
from training.data.texture import MIN_TRANSFER, transfers

MAX_MEMORY_SHARE = 0.5
"""Share of the free memory of a GPU that the slices may take; the fit needs the rest."""

BYTES_PER_ELEMENT = 2
"""Size of int16 HU and of float16 noise."""

Fields = dict[str, Tensor]


def has_room(packer: Packer, device: torch.device) -> bool:
    """Return whether a GPU has room for the slices and noise images of a split."""
    free, _ = torch.cuda.mem_get_info(device)
    return BYTES_PER_ELEMENT * sum(packer.elements) <= MAX_MEMORY_SHARE * free


class DeviceCropSource:
    """Crops of one split, cut from slices on a device.

    Args:
        packer: Places of the split.
        device: Device that holds the slices.
        draw: Function that draws the places of a batch; None: ``packer.packed``.
    """

    def __init__(
        self,
        packer: Packer,
        device: torch.device,
        draw: Callable[[int], PackedPlaces] | None = None,
    ) -> None:
        places = packer.places
        self._data = places.data
        self._paired = bool(places.pairs)
        self._device = device
        self._draw = draw or packer.packed
        self._transfers: dict[int, Tensor] = {}
        self._turns: dict[int, Tensor] = {}
        pixels, noise = packer.elements
        self._pixels = torch.empty(pixels, dtype=torch.int16, device=device)
        self._noise = torch.empty(noise, dtype=torch.float16, device=device)
        _fill(self._pixels, [slices_file(places.root, e.series) for e in packer.series])
        _fill(self._noise, _noise_files(places.root, packer.noisy, places.copies))

    @torch.no_grad()
    def batch(self, index: int) -> Batch:
        """Return batch number ``index``: full-dose and low-dose crops in HU."""
        drawn = self._draw(index)
        names = (*INTEGERS, *chain.from_iterable(SIDES))[: len(drawn.integers)]
        whole = dict(zip(names, self._sent(drawn.integers), strict=True))
        real = dict(zip(REALS, self._sent(drawn.reals), strict=True))
        crops, first = [], 0
        for stride, count in drawn.groups:
            members = slice(first, first + count)
            group = {name: values[members] for name, values in (whole | real).items()}
            crops.append(self._crops(group, stride))
            first += count
        back = whole["back"]
        full, low, *sides = torch.cat(crops, dim=1)[:, back]
        corners = torch.stack([real[name] for name in ("top", "left", "bottom", "right")], dim=1)
        beside = torch.cat(sides, dim=1) if sides else None
        return Batch(full, low, real["dose"][back], corners[back], real["noise_hu"][back], beside)

    def _sent(self, values: NDArray[np.generic]) -> Tensor:
        """Copy numbers to the device without waiting for it."""
        held = torch.from_numpy(values)
        if self._device.type == "cuda":
            held = held.pin_memory()
        return held.to(self._device, non_blocking=True)

    def _crops(self, group: Fields, stride: int) -> Tensor:
        """Make full and low dose [2, crop, 1, row, column] of every ``stride``-th pixel.

        The low dose of the slices beside follows, if the recipe has ``context_slices``.
        """
        pair = self._pair(group, stride)
        beside = SIDES if self._data.context_slices else ()
        others = (
            group
            | {own: group[side] for own, side in zip(("full", "low", "noise"), names, strict=True)}
            for names in beside
        )
        crops = [*pair, *(self._pair(other, stride)[1] for other in others)]
        return torch.stack([self._turned(x, group["symmetry"], stride) for x in crops])

    def _pair(self, group: Fields, stride: int) -> tuple[Tensor, Tensor]:
        """Make full and low dose [crop, row, column] of every pixel."""
        full = self._full_dose(group, self._data.crop * stride)
        if self._data.sharper_share:  # grain: noise of the opposite place, turned by 180°
            grain = self._shaped_noise(group, full, ("opposite_row", "opposite_column"), "grain")
            full = full + grain.flip(1, 2)
        low = full
        if self._paired:
            plain = self._low_dose(group, full.shape[-1])
            real = group["low"] != group["full"]
            low = torch.where(real[:, None, None], plain, full)
        return full, low + self._shaped_noise(group, full, ("row", "column"), "amplitude")

    def _full_dose(self, group: Fields, edge: int) -> Tensor:
        """Cut full-dose crops [crop, row, column]; filter some to a smoother kernel."""
        if not self._data.smoother_share:
            return self._cut(self._pixels, group, "full", ("row", "column"), edge, 0)
        wide = self._cut(self._pixels, group, "full", ("row", "column"), edge, MARGIN_PIXELS)
        table, kernel = self._transfer(wide.shape[-1]), group["kernel"]
        smooth, sharp = table[group["cutoff"]], table[kernel.clamp(min=0)]
        ratio = torch.where(sharp > MIN_TRANSFER, smooth / sharp.clamp(min=MIN_TRANSFER), smooth)
        ratio[:, 0, 0] = 1.0
        chosen = (kernel != NOT_SMOOTHED)[:, None, None]
        return _inner(torch.where(chosen, _filtered(wide, ratio.clamp(max=1.0)), wide))

    def _low_dose(self, group: Fields, edge: int) -> Tensor:
        """Cut the crops of real low-dose series [crop, row, column]."""
        own = group | {"columns": group["low_columns"]}
        return self._cut(self._pixels, own, "low", ("row", "column"), edge, 0)

    def _shaped_noise(
        self, group: Fields, like: Tensor, corner: tuple[str, str], factor: str
    ) -> Tensor:
        """Make noise [crop, row, column] in HU of the drawn texture, at some corners."""
        edge = like.shape[-1]
        plain = self._cut(self._noise, group, "noise", corner, edge, MARGIN_PIXELS)
        shaped = _filtered(plain, self._transfer(plain.shape[-1])[group["cutoff"]])
        return _inner(shaped) * group[factor][:, None, None]

    def _cut(
        self,
        array: Tensor,
        group: Fields,
        start: str,
        corner: tuple[str, str],
        edge: int,
        margin: int,
    ) -> Tensor:
        """Cut windows with a margin, mirrored at the slice's edges, float32 [crop, row, column]."""
        along = torch.arange(-margin, edge + margin, device=self._device)
        rows, columns = (
            _mirrored(group[first][:, None] + along, group[limit][:, None])
            for first, limit in zip(corner, ("rows", "columns"), strict=True)
        )
        row_starts = group[start][:, None] + rows * group["columns"][:, None]
        return array[row_starts[:, :, None] + columns[:, None, :]].float()

    def _turned(self, dense: Tensor, symmetry: Tensor, stride: int) -> Tensor:
        """Turn every ``stride``-th pixel: [crop, row, column] to [crop, 1, row, column]."""
        crop = self._data.crop
        turned = dense.flatten(1).gather(1, self._turn(stride)[symmetry])
        return turned.view(-1, 1, crop, crop)

    def _transfer(self, size: int) -> Tensor:
        """Return the filters of ``transfers`` on the device."""
        if size not in self._transfers:
            self._transfers[size] = torch.from_numpy(transfers(size).copy()).to(self._device)
        return self._transfers[size]

    def _turn(self, stride: int) -> Tensor:
        """Return the pixel of a dense crop at each pixel of a turned one [symmetry, pixel]."""
        if stride not in self._turns:
            edge = self._data.crop * stride
            pixels = np.arange(edge * edge).reshape(edge, edge)[::stride, ::stride]
            turned = [transform(pixels, s).ravel() for s in range(SYMMETRIES)]
            self._turns[stride] = torch.from_numpy(np.stack(turned)).to(self._device)
        return self._turns[stride]


def _noise_files(root: Path, series: list[SeriesEntry], copies: int) -> list[Path]:
    return [noise_file(root, e.series, copy) for e in series for copy in range(copies)]


def _fill(target: Tensor, files: list[Path]) -> None:
    """Copy arrays one after the other into a flat tensor."""
    first = 0
    for path in files:
        values = torch.from_numpy(np.load(path, mmap_mode="c")).flatten()
        target[first : first + len(values)].copy_(values)
        first += len(values)


def _filtered(plane: Tensor, transfer: Tensor) -> Tensor:
    """Filter squares [crop, row, column]."""
    filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(plane) * transfer, s=plane.shape[-2:])
    return filtered


def _inner(wide: Tensor) -> Tensor:
    return wide[:, MARGIN_PIXELS:-MARGIN_PIXELS, MARGIN_PIXELS:-MARGIN_PIXELS]


def _mirrored(index: Tensor, limit: Tensor) -> Tensor:
    index = index.abs()
    return torch.where(index < limit, index, 2 * limit - 2 - index)
