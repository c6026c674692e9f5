"""Planted lesions: is one that is there lost, does one appear that is not?

Lesions are added to the full-dose image before the noise of the low dose, so that their truth is
known. The same noise with and without them goes through a denoiser; what differs between the two
results is what became of the lesions. Where the result without lesions shows a spot of a lesion's
size that neither the full dose nor the low dose holds, one was invented.
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
"""Blur of a lesion's edge, about that of an abdominal kernel."""

SURROUND_MM = (1.0, 4.0)
"""The tissue a lesion is compared with lies between these distances from its edge."""

LOST_SHARE = 0.5
"""A lesion is lost when less than this share of its contrast comes through: 40 HU, the faintest
that must survive, would look like less than 20 HU."""

INVENTED_HU = 20.0
"""A spot is invented when its contrast goes beyond both the full dose's and the low dose's by more
than this: half of the faintest lesion that counts."""

CLINICAL_DIAMETERS_MM = (5.0, 6.0, 8.0, 10.0)
CLINICAL_CONTRASTS_HU = (40.0, 70.0, 100.0)
"""Lesions that no denoiser may lose; each is drawn brighter or darker than its surround."""


@dataclass(frozen=True)
class PlantedLesion:
    """A lesion of known place: a disc with a slightly soft edge.

    Attributes:
        slice: Index of its slice.
        row: Of its centre, pixels.
        column: Of its centre, pixels.
        diameter_mm: At half contrast.
        contrast_hu: Added to the tissue; negative for a darker lesion.
    """

    slice: int
    row: int
    column: int
    diameter_mm: float
    contrast_hu: float


@dataclass(frozen=True)
class LesionTrial:
    """What became of a planted lesion.

    Attributes:
        lesion: As planted.
        recovered_share: Contrast in the result over contrast planted; 1 is perfect.
        invented_hu: Largest contrast of a spot of this size near the lesion's place, in the result
            without lesions, beyond what full dose and low dose show there; 0 if none.
    """

    lesion: PlantedLesion
    recovered_share: float
    invented_hu: float

    @property
    def lost(self) -> bool:
        """Whether too little of its contrast came through."""
        return self.recovered_share < LOST_SHARE

    @property
    def invented(self) -> bool:
        """Whether a spot appeared that is in neither image."""
        return self.invented_hu > INVENTED_HU


def plan_lesions(
    full: Hu,
    pixel_mm: float,
    *,
    count: int,
    seed: int,
    diameters_mm: tuple[float, ...] = CLINICAL_DIAMETERS_MM,
    contrasts_hu: tuple[float, ...] = CLINICAL_CONTRASTS_HU,
) -> tuple[PlantedLesion, ...]:
    """Random places for lesions in uniform soft tissue, well apart, spread over the slices.

    Args:
        full: Full-dose image [slice, row, column], HU.
        pixel_mm: Side of a pixel.
        count: Lesions wanted.
        seed: The same seed gives the same lesions.
        diameters_mm: Drawn from these.
        contrasts_hu: Drawn from these, with a random sign.

    Returns:
        At most ``count`` lesions: fewer where the tissue has no more room.
    """
    random = np.random.default_rng(seed)
    planned: list[PlantedLesion] = []
    rooms = {index: _Room(full[index], pixel_mm) for index in range(len(full))}
    while len(planned) < count and rooms:
        for index in list(rooms)[: count - len(planned)]:
            diameter = float(random.choice(diameters_mm))
            contrast = float(random.choice(contrasts_hu) * random.choice((-1.0, 1.0)))
            place = rooms[index].take(diameter, random)
            if place is None:
                del rooms[index]
            else:
                planned.append(PlantedLesion(index, *place, diameter, contrast))
    return tuple(planned)


def paint_lesions(
    shape: tuple[int, int, int], pixel_mm: float, lesions: tuple[PlantedLesion, ...]
) -> NDArray[np.float32]:
    """What lesions add to an image, HU [slice, row, column].

    Args:
        shape: (slices, rows, columns).
        pixel_mm: Side of a pixel.
        lesions: Lesions that lie within the image with their surround.
    """
    added = np.zeros(shape, dtype=np.float32)
    for lesion in lesions:
        disc = lesion.contrast_hu * _profile(lesion.diameter_mm, pixel_mm)
        added[_square(lesion, len(disc) // 2)] += disc.astype(np.float32)
    return added


def judge_lesions(
    lesions: tuple[PlantedLesion, ...],
    pixel_mm: float,
    *,
    with_lesions: Hu,
    without: Hu,
    low: Hu,
    full: Hu,
) -> tuple[LesionTrial, ...]:
    """What a denoiser made of planted lesions.

    Contrast is the mean under the lesion's own profile minus the mean of its surround.

    Args:
        lesions: As `plan_lesions` gave them.
        pixel_mm: Side of a pixel.
        with_lesions: Result for low dose with the lesions, HU [slice, row, column].
        without: Result for the same low dose without lesions.
        low: The low dose without lesions.
        full: The full dose without lesions.
    """
    return tuple(
        LesionTrial(
            lesion,
            _recovered_share(lesion, pixel_mm, with_lesions, without),
            _invented(lesion, pixel_mm, without, low, full),
        )
        for lesion in lesions
    )


def _recovered_share(lesion: PlantedLesion, pixel_mm: float, with_: Hu, without: Hu) -> float:
    matched = _matched_filter(lesion.diameter_mm, pixel_mm)
    around = _square(lesion, len(matched) // 2)
    change = with_[around].astype(np.float64) - without[around]
    perfect = lesion.contrast_hu * _profile(lesion.diameter_mm, pixel_mm)
    return float((matched * change).sum() / (matched * perfect).sum())


def _invented(lesion: PlantedLesion, pixel_mm: float, result: Hu, low: Hu, full: Hu) -> float:
    """Sought within one diameter of the place, as far as the tissue there is uniform."""
    matched = _matched_filter(lesion.diameter_mm, pixel_mm)
    half = len(matched) // 2
    around = _square(lesion, half + round(lesion.diameter_mm / pixel_mm))
    seen, noisy, true = (_contrasts(image[around], matched) for image in (result, low, full))
    beyond = np.maximum(seen - np.maximum(noisy, true), np.minimum(noisy, true) - seen)
    uniform = uniform_tissue(full[around], pixel_mm, half)[half:-half, half:-half]
    return float(beyond[uniform].max(initial=0.0))


def _contrasts(image: Hu, matched: NDArray[np.float64]) -> NDArray[np.float64]:
    """Contrast of a spot at every place whose neighbourhood lies within the image."""
    shape = tuple(length - len(matched) + 1 for length in image.shape)
    size = image.shape
    spectrum = np.fft.rfft2(image.astype(np.float64)) * np.conj(np.fft.rfft2(matched, size))
    contrasts: NDArray[np.float64] = np.fft.irfft2(spectrum, size)[: shape[0], : shape[1]]
    return contrasts


def _square(lesion: PlantedLesion, half: int) -> tuple[int, slice, slice]:
    rows, columns = (slice(max(0, i - half), i + half + 1) for i in (lesion.row, lesion.column))
    return lesion.slice, rows, columns


def _reach(diameter_mm: float, pixel_mm: float) -> int:
    """Pixels from a lesion's centre to the end of its surround."""
    return math.ceil((0.5 * diameter_mm + SURROUND_MM[1]) / pixel_mm)


def _distance_mm(diameter_mm: float, pixel_mm: float) -> NDArray[np.float64]:
    """From the centre of a square [row, column] that holds a lesion and its surround."""
    line = np.arange(-(reach := _reach(diameter_mm, pixel_mm)), reach + 1) * pixel_mm
    distance: NDArray[np.float64] = np.hypot(line[:, None], line[None, :])
    return distance


@lru_cache(maxsize=32)
def _profile(diameter_mm: float, pixel_mm: float) -> NDArray[np.float64]:
    """A lesion of unit contrast [row, column]: half at the diameter, Gaussian blur across it."""
    inside = 0.5 * diameter_mm - _distance_mm(diameter_mm, pixel_mm)
    scaled = inside / (math.sqrt(2.0) * EDGE_SIGMA_MM)
    profile: NDArray[np.float64] = 0.5 * (1.0 + np.vectorize(math.erf)(scaled))
    return profile


@lru_cache(maxsize=32)
def _matched_filter(diameter_mm: float, pixel_mm: float) -> NDArray[np.float64]:
    """Weights [row, column] whose sum over an image is the contrast of a spot, HU."""
    profile = _profile(diameter_mm, pixel_mm)
    beyond = _distance_mm(diameter_mm, pixel_mm) - 0.5 * diameter_mm
    surround = ((beyond >= SURROUND_MM[0]) & (beyond <= SURROUND_MM[1])).astype(np.float64)
    matched: NDArray[np.float64] = profile / profile.sum() - surround / surround.sum()
    return matched


class _Room:
    """Where in a slice lesions still fit."""

    def __init__(self, hu: Hu, pixel_mm: float) -> None:
        self._hu = hu
        self._pixel_mm = pixel_mm
        self._uniform: dict[int, NDArray[np.bool_]] = {}
        self._taken: list[tuple[int, int, int]] = []

    def take(self, diameter_mm: float, random: np.random.Generator) -> tuple[int, int] | None:
        """A random free place (row, column), no longer free afterwards; None if there is none."""
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
