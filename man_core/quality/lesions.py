"""Trials with inserted lesions: lesions that a denoiser removes, and lesions that it invents.

Lesions are added to the full-dose image before the noise of the low dose, so that their truth is
known. Images with and without them, in the same noise, pass through a denoiser; the difference of
the results shows the lesions. A spot of lesion size in the result without lesions that neither the
full dose nor the low dose shows is an invented lesion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from man_core.quality.uniform_tissue import uniform_tissue

Hu = NDArray[np.floating]

EDGE_SIGMA_MM = 0.5
"""Blur of the edge of a lesion, about that of an abdominal kernel."""

SURROUND_MM = (1.0, 4.0)
"""Distances from the edge between which lies the tissue a lesion is compared with."""

LOST_SHARE = 0.7
"""Share of its contrast below which a lesion is lost: the faintest that must be preserved, 40 HU,
would appear with less than 28 HU, which a reader may take for another tissue."""

INVENTED_HU = 20.0
"""Contrast beyond that in full dose and in low dose above which a spot is invented: half of the
faintest lesion that counts."""

CLINICAL_DIAMETERS_MM = (5.0, 6.0, 8.0, 10.0)
CLINICAL_CONTRASTS_HU = (40.0, 70.0, 100.0)
"""Lesions that a denoiser must preserve; each is brighter or darker than its surroundings."""


@dataclass(frozen=True)
class InsertedLesion:
    """An inserted lesion: a disc with a slightly blurred edge.

    Attributes:
        slice: Index of its slice.
        row: Row of its centre, pixels.
        column: Column of its centre, pixels.
        diameter_mm: Diameter at half contrast.
        contrast_hu: Value added to the tissue; negative for a darker lesion.
    """

    slice: int
    row: int
    column: int
    diameter_mm: float
    contrast_hu: float


@dataclass(frozen=True)
class LesionTrial:
    """Outcome of one inserted lesion.

    Attributes:
        lesion: Lesion as inserted.
        recovered_share: Contrast in the result over inserted contrast; 1 is perfect.
        invented_hu: Largest contrast of a spot of this size near the lesion, in the result without
            lesions, beyond that in full dose and low dose; 0 if none.
    """

    lesion: InsertedLesion
    recovered_share: float
    invented_hu: float

    @property
    def lost(self) -> bool:
        """Whether too little of its contrast is preserved."""
        return self.recovered_share < LOST_SHARE

    @property
    def invented(self) -> bool:
        """Whether a spot appears that is in neither image."""
        return self.invented_hu > INVENTED_HU


def plan_lesions(
    full: Hu,
    pixel_mm: float,
    *,
    count: int,
    seed: int,
    diameters_mm: tuple[float, ...] = CLINICAL_DIAMETERS_MM,
    contrasts_hu: tuple[float, ...] = CLINICAL_CONTRASTS_HU,
) -> tuple[InsertedLesion, ...]:
    """Choose random places for lesions in uniform soft tissue, well apart, over all slices.

    Args:
        full: Full-dose image [slice, row, column], HU.
        pixel_mm: Side of a pixel.
        count: Desired number of lesions.
        seed: The same seed gives the same lesions.
        diameters_mm: Diameters to draw from.
        contrasts_hu: Contrasts to draw from, with a random sign.

    Returns:
        At most ``count`` lesions; fewer if the tissue has no more room.
    """
    random = np.random.default_rng(seed)
    planned: list[InsertedLesion] = []
    rooms = {index: _Room(full[index], pixel_mm) for index in range(len(full))}
    while len(planned) < count and rooms:
        for index in list(rooms)[: count - len(planned)]:
            diameter = float(random.choice(diameters_mm))
            contrast = float(random.choice(contrasts_hu) * random.choice((-1.0, 1.0)))
            place = rooms[index].take(diameter, random)
            if place is None:
                del rooms[index]
            else:
                planned.append(InsertedLesion(index, *place, diameter, contrast))
    return tuple(planned)


def paint_lesions(
    shape: tuple[int, int, int], pixel_mm: float, lesions: tuple[InsertedLesion, ...]
) -> NDArray[np.float32]:
    """Return the values that lesions add to an image [slice, row, column], HU.

    Args:
        shape: (slices, rows, columns).
        pixel_mm: Side of a pixel.
        lesions: Lesions that lie within the image together with their surroundings.
    """
    added = np.zeros(shape, dtype=np.float32)
    for lesion in lesions:
        disc = lesion.contrast_hu * _profile(lesion.diameter_mm, pixel_mm)
        added[_square(lesion, len(disc) // 2)] += disc.astype(np.float32)
    return added


def judge_lesions(
    lesions: tuple[InsertedLesion, ...],
    pixel_mm: float,
    *,
    with_lesions: Hu,
    without: Hu,
    low: Hu,
    full: Hu,
) -> tuple[LesionTrial, ...]:
    """Judge the effect of a denoiser on inserted lesions.

    Contrast is the mean under the profile of the lesion minus the mean of its surroundings.

    Args:
        lesions: Lesions of ``plan_lesions``.
        pixel_mm: Side of a pixel.
        with_lesions: Result for low dose with the lesions, HU [slice, row, column].
        without: Result for the same low dose without lesions.
        low: Low dose without lesions.
        full: Full dose without lesions.
    """
    return tuple(
        LesionTrial(
            lesion,
            _recovered_share(lesion, pixel_mm, with_lesions, without),
            _invented(lesion, pixel_mm, without, low, full),
        )
        for lesion in lesions
    )


def _recovered_share(lesion: InsertedLesion, pixel_mm: float, with_: Hu, without: Hu) -> float:
    matched = _matched_filter(lesion.diameter_mm, pixel_mm)
    around = _square(lesion, len(matched) // 2)
    change = with_[around].astype(np.float64) - without[around]
    perfect = lesion.contrast_hu * _profile(lesion.diameter_mm, pixel_mm)
    return float((matched * change).sum() / (matched * perfect).sum())


def _invented(lesion: InsertedLesion, pixel_mm: float, result: Hu, low: Hu, full: Hu) -> float:
    """Search within one diameter of the place, where the tissue is uniform."""
    matched = _matched_filter(lesion.diameter_mm, pixel_mm)
    half = len(matched) // 2
    around = _square(lesion, half + round(lesion.diameter_mm / pixel_mm))
    seen, noisy, true = (_contrasts(image[around], matched) for image in (result, low, full))
    beyond = np.maximum(seen - np.maximum(noisy, true), np.minimum(noisy, true) - seen)
    uniform = uniform_tissue(full[around], pixel_mm, half)[half:-half, half:-half]
    return float(beyond[uniform].max(initial=0.0))


def _contrasts(image: Hu, matched: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the contrast of a spot at every place whose neighbourhood is within the image."""
    shape = tuple(length - len(matched) + 1 for length in image.shape)
    size = image.shape
    spectrum = np.fft.rfft2(image.astype(np.float64)) * np.conj(np.fft.rfft2(matched, size))
    contrasts: NDArray[np.float64] = np.fft.irfft2(spectrum, size)[: shape[0], : shape[1]]
    return contrasts


def _square(lesion: InsertedLesion, half: int) -> tuple[int, slice, slice]:
    rows, columns = (slice(max(0, i - half), i + half + 1) for i in (lesion.row, lesion.column))
    return lesion.slice, rows, columns


def _reach(diameter_mm: float, pixel_mm: float) -> int:
    """Return the pixels from the centre of a lesion to the end of its surroundings."""
    return math.ceil((0.5 * diameter_mm + SURROUND_MM[1]) / pixel_mm)


def _distance_mm(diameter_mm: float, pixel_mm: float) -> NDArray[np.float64]:
    """Compute distances from the centre of a square [row, column] with lesion and surroundings."""
    line = np.arange(-(reach := _reach(diameter_mm, pixel_mm)), reach + 1) * pixel_mm
    distance: NDArray[np.float64] = np.hypot(line[:, None], line[None, :])
    return distance


@lru_cache(maxsize=32)
def _profile(diameter_mm: float, pixel_mm: float) -> NDArray[np.float64]:
    """Return a lesion of unit contrast [row, column] with an edge blurred by a Gaussian."""
    inside = 0.5 * diameter_mm - _distance_mm(diameter_mm, pixel_mm)
    scaled = inside / (math.sqrt(2.0) * EDGE_SIGMA_MM)
    profile: NDArray[np.float64] = 0.5 * (1.0 + np.vectorize(math.erf)(scaled))
    return profile


@lru_cache(maxsize=32)
def _matched_filter(diameter_mm: float, pixel_mm: float) -> NDArray[np.float64]:
    """Return weights [row, column] whose weighted sum of an image is the contrast of a spot, HU."""
    profile = _profile(diameter_mm, pixel_mm)
    beyond = _distance_mm(diameter_mm, pixel_mm) - 0.5 * diameter_mm
    surround = ((beyond >= SURROUND_MM[0]) & (beyond <= SURROUND_MM[1])).astype(np.float64)
    matched: NDArray[np.float64] = profile / profile.sum() - surround / surround.sum()
    return matched


class _Room:
    """Free places for lesions in a slice."""

    def __init__(self, hu: Hu, pixel_mm: float) -> None:
        self._hu = hu
        self._pixel_mm = pixel_mm
        self._uniform: dict[int, NDArray[np.bool_]] = {}
        self._taken: list[tuple[int, int, int]] = []

    def take(self, diameter_mm: float, random: np.random.Generator) -> tuple[int, int] | None:
        """Take a random free place (row, column); None if there is none."""
        own = _reach(diameter_mm, self._pixel_mm)
        if own not in self._uniform:
            self._uniform[own] = uniform_tissue(self._hu, self._pixel_mm, own)
        free = self._uniform[own].copy()
        rows, columns = np.ogrid[: free.shape[0], : free.shape[1]]
        for row, column, reach in self._taken:
            free &= (rows - row) ** 2 + (columns - column) ** 2 > (own + reach) ** 2
        places = np.argwhere(free)
        if len(places) == 0:
            return None
        row, column = (int(i) for i in places[random.integers(len(places))])
        self._taken.append((row, column, own))
        return row, column
