"""Place of a crop, its symmetry, and dose, texture and amplitude of its low-dose partner."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from training.data.manifest import SeriesEntry, SliceEntry
from training.data.texture import CUTOFFS, amplitude_at, nearest_cutoff
from training.settings import DataSettings

Scalar = TypeVar("Scalar", bound=np.generic)

SYMMETRIES = 8
"""Symmetries of a square: four quarter turns, each with and without a flip."""

MIRRORED = 4
"""First of those with a flip."""

GRAIN_JITTER = 0.25
"""Spread of the noise of a kernel around that of its texture, as standard deviation of the
logarithm: slice thickness and tube current vary with the kernel."""

MIN_KERNEL_CUTOFF = nearest_cutoff(0.45)
"""Smoothest simulated kernel, an index in ``CUTOFFS``: somewhat smoother than B10f."""

MIN_FOREIGN_CUTOFF = nearest_cutoff(0.5)
"""Smoothest texture unlike that of the series, an index in ``CUTOFFS``; no kernel is smoother."""


@dataclass(frozen=True)
class Place:
    """Parameters of one crop.

    Attributes:
        entry: Series.
        slice_index: Index of the slice.
        row: First row.
        column: First column.
        symmetry: One of the eight symmetries of a square.
        copy: Index of the simulated noise image.
        edge: Side in pixels of the slice.
        stride: Pixels of the slice per pixel of the crop.
        dose: Dose of the low-dose partner as a fraction of full dose.
        cutoff: Texture of the noise, an index in ``CUTOFFS``.
        amplitude: Noise added to the low-dose partner, HU.
        grain: Noise added to the full dose itself, HU.
        kernel: Texture from which the full dose is smoothed to ``cutoff``; None: no smoothing.
    """

    entry: SeriesEntry
    slice_index: int
    row: int
    column: int
    symmetry: int
    copy: int
    edge: int
    stride: int
    dose: float
    cutoff: int = 0
    amplitude: float = 0.0
    grain: float = 0.0
    kernel: int | None = None

    @property
    def slice_entry(self) -> SliceEntry:
        """Entry of the slice in the manifest."""
        return self.entry.slices[self.slice_index]

    @property
    def full_noise_hu(self) -> float:
        """Noise of the full-dose crop after smoothing or with grain, HU."""
        own = self.slice_entry.noise_hu
        if self.kernel is not None:
            own *= self.simulated_hu / amplitude_at(self.slice_entry.noise_table, self.kernel)
        return float(np.hypot(own, self.grain))

    @property
    def low_noise_hu(self) -> float:
        """Noise of the low-dose partner, HU."""
        return float(np.hypot(self.full_noise_hu, self.amplitude))

    @property
    def simulated_hu(self) -> float:
        """Standard deviation of the simulated noise image in this texture, HU."""
        return amplitude_at(self.slice_entry.noise_table, self.cutoff)

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the crop in the slice."""
        return slice(self.row, self.row + self.edge), slice(self.column, self.column + self.edge)

    def at(self, slice_index: int) -> Place:
        """Return this place in another slice of the series, at the same dose.

        Noise images are simulated for the noise of each slice, so one factor gives one dose.
        """
        other = replace(self, slice_index=slice_index)
        if not self.amplitude and not self.grain:
            return other
        ratio = other.simulated_hu / self.simulated_hu
        return replace(other, amplitude=self.amplitude * ratio, grain=self.grain * ratio)

    @property
    def opposite(self) -> Place:
        """Place that a half turn of the slice maps to this one; its noise is independent."""
        _, rows, columns = self.entry.shape
        row, column = rows - self.edge - self.row, columns - self.edge - self.column
        return replace(self, row=row, column=column)


def dosed(place: Place, data: DataSettings, random: np.random.Generator) -> Place:
    """Draw dose, texture and amplitude of simulated noise."""
    dose = float(np.exp(random.uniform(np.log(data.lowest_dose), np.log(data.highest_dose))))
    place = _textured(place, data, random)
    spread = float(np.exp(random.normal(0, data.amplitude_jitter)))
    if random.random() < data.untouched_share:
        return replace(place, dose=1.0)
    dose = max(dose, 1 / (1 + (data.highest_noise_hu / place.full_noise_hu) ** 2))
    amplitude = place.full_noise_hu * np.sqrt(1 / dose - 1) * spread
    return replace(place, dose=dose, amplitude=float(amplitude))


def _textured(place: Place, data: DataSettings, random: np.random.Generator) -> Place:
    """Draw the texture: of a sharper or a smoother kernel, any, or that of the series."""
    own = nearest_cutoff(place.entry.cutoff * np.exp(random.normal(0, data.texture_jitter)))
    anything = int(random.integers(MIN_FOREIGN_CUTOFF, len(CUTOFFS)))
    sharper = int(random.integers(own, len(CUTOFFS)))
    smoother = int(random.integers(min(MIN_KERNEL_CUTOFF, own), own + 1))
    chance = random.random()
    if chance < data.sharper_share:
        return replace(place, cutoff=sharper, grain=_grain(place, own, sharper, random))
    chance -= data.sharper_share
    if chance < data.smoother_share:
        return replace(place, cutoff=smoother, kernel=own)
    foreign = chance - data.smoother_share < data.any_texture_share
    return replace(place, cutoff=anything if foreign else own)


def _grain(place: Place, own: int, sharper: int, random: np.random.Generator) -> float:
    """Draw the noise in HU that a sharper kernel adds to a full dose."""
    table = place.slice_entry.noise_table
    gain = amplitude_at(table, sharper) / amplitude_at(table, own)
    wanted = place.full_noise_hu * gain * float(np.exp(random.normal(0, GRAIN_JITTER)))
    return float(np.sqrt(max(wanted**2 - place.full_noise_hu**2, 0.0)))


def transform(crop: NDArray[Scalar], symmetry: int) -> NDArray[Scalar]:
    """Apply one of the eight symmetries of a square to a crop [row, column]."""
    turned = np.rot90(crop, symmetry % 4)
    return turned[:, ::-1] if symmetry >= MIRRORED else turned


def transform_position(
    position: tuple[float, float, float, float], symmetry: int
) -> tuple[float, float, float, float]:
    """Transform (top, left, bottom, right) of a crop, fractions of its slice, with the slice."""
    top, left, bottom, right = position
    for _ in range(symmetry % 4):  # np.rot90: column c becomes row 1 - c, row r becomes column r
        top, left, bottom, right = 1 - right, top, 1 - left, bottom
    if symmetry >= MIRRORED:
        left, right = 1 - right, 1 - left
    return top, left, bottom, right
