"""Slices that lie beside each slice of a series, for models that see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.ct.attributes import number
from dicom_node.ct.slices.phases import phases_of
from man_core import Neighbours, neighbours_of


def neighbours_by_image(
    images: Sequence[Dataset], places: NDArray[np.float64]
) -> dict[int, tuple[int, int]]:
    """Find the images below and above each one, in its own phase; itself where there is none.

    Args:
        images: Headers of one series, in any order.
        places: Position of each along the common normal, mm.

    Returns:
        Indices of images by the index of an image.
    """
    found = {}
    for phase in phases_of(images, places) or ():
        thickness = number(images[int(phase[0])], "SliceThickness") or None
        pairs = neighbours_of([float(places[index]) for index in phase], thickness)
        for index, pair in zip(phase, pairs, strict=True):
            found[int(index)] = (int(phase[pair[0]]), int(phase[pair[1]]))
    return found


def neighbours_among(
    by_image: Mapping[int, tuple[int, int]], order: Sequence[int]
) -> tuple[Neighbours, list[int]]:
    """Number the neighbours of some slices of a series.

    Args:
        by_image: As ``neighbours_by_image`` gives them.
        order: The image of each slice.

    Returns:
        The neighbours of each slice, by number; and the images of those beyond the given ones,
        which follow them in this order.
    """
    numbers = {image: place for place, image in enumerate(order)}
    for image in order:
        for other in by_image.get(image, ()):
            numbers.setdefault(other, len(numbers))
    neighbours = tuple(
        (numbers[below], numbers[above])
        for below, above in (by_image.get(image, (image, image)) for image in order)
    )
    return neighbours, list(numbers)[len(order) :]
