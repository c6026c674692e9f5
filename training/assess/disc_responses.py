"""Responses of the channels of two observers to regions with and without low-contrast discs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from man_core.physics.phantom.cct189 import CCT189_DISCS, Disc
from man_core.physics.phantom.rods import PIXEL_MM
from man_core.quality import (
    InsertedLesion,
    channel_responses,
    gabor_channels,
    laguerre_gauss_channels,
)
from man_core.quality.detectability import GABOR_HIGHEST, LAGUERRE_GAUSS_WIDTH
from training.assess.images import Hu
from training.assess.observer import Observed, observe

REGION_HALF_MM = 9.0
"""Half side of the region around each disc that the observers get."""

SURROUND_MM = 6.0
"""Distance from the centre from which the background of a region in a patient is read."""

IMAGES = ("low", "model", "full")

Images = dict[str, Hu]
"""HU [slice, row, column] of each of ``IMAGES``."""

OBSERVERS = ("Laguerre-Gauss", "Gabor")

Key = tuple[Disc, str, str]
"""Disc, observer and image."""


class Responses:
    """Responses of the channels of each observer for each disc, with and without the disc.

    Regions lose the mean of their surround if ``flat``. Channels are the same functions of the
    distance in mm whatever the pixels, so that responses to images of several scanners go together.
    """

    def __init__(self, flat: bool) -> None:
        self._flat = flat
        self._present: dict[Key, list[NDArray[np.float64]]] = defaultdict(list)
        self._absent: dict[Key, list[NDArray[np.float64]]] = defaultdict(list)

    def add(
        self,
        disc: Disc | None,
        places: Sequence[InsertedLesion],
        images: Images,
        pixel_mm: float,
    ) -> None:
        """Read the regions around places that hold a disc, or none."""
        if not places:
            return
        held = self._absent if disc is None else self._present
        for image, hu in images.items():
            regions = _regions(hu, places, pixel_mm, self._flat)
            for each in CCT189_DISCS if disc is None else (disc,):
                for observer, channels in _channels(each, pixel_mm).items():
                    held[each, observer, image].append(channel_responses(regions, channels))

    def pairs(self) -> int:
        """Return the number of regions with each disc, or of those without if they are fewer."""
        counts = [
            sum(map(len, held[disc, OBSERVERS[0], IMAGES[0]]))
            for held in (self._present, self._absent)
            for disc in CCT189_DISCS
        ]
        return min(counts)

    def observed(self, disc: Disc, observer: str, pairs: int) -> dict[str, Observed]:
        """Let an observer look for a disc in each of ``IMAGES``; empty with too few pairs."""
        found = {}
        for image in IMAGES if pairs else ():
            present, absent = (
                np.concatenate(held[disc, observer, image])[:pairs]
                for held in (self._present, self._absent)
            )
            if (each := observe(present, absent)) is not None:
                found[image] = each
        return found


@lru_cache(maxsize=64)
def _channels(disc: Disc, pixel_mm: float) -> dict[str, NDArray[np.float64]]:
    side = 2 * _half(pixel_mm) + 1
    width = LAGUERRE_GAUSS_WIDTH * 0.5 * disc.diameter_mm / pixel_mm
    highest = GABOR_HIGHEST * pixel_mm / PIXEL_MM
    return {
        OBSERVERS[0]: pixel_mm * laguerre_gauss_channels(side, width),
        OBSERVERS[1]: pixel_mm**2 * gabor_channels(side, highest),
    }


def _half(pixel_mm: float) -> int:
    return int(REGION_HALF_MM / pixel_mm)


def _regions(hu: Hu, places: Sequence[InsertedLesion], pixel_mm: float, flat: bool) -> Hu:
    half = _half(pixel_mm)
    regions = np.stack(
        [
            hu[
                place.slice,
                place.row - half : place.row + half + 1,
                place.column - half : place.column + half + 1,
            ]
            for place in places
        ]
    )
    if not flat:
        return regions
    line = np.arange(-half, half + 1) * pixel_mm
    surround = np.hypot(line[:, None], line[None, :]) > SURROUND_MM
    flattened: Hu = regions - regions[:, surround].mean(axis=1)[:, None, None]
    return flattened
