"""Localizers (scout images) among the axial images of a series: left out, and told."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import Dataset

from dicom_node.ct.checks import is_localizer


def without_scouts(images: Sequence[Dataset]) -> list[int]:
    """The images that are no localizers, by index; all where nothing else is there."""
    kept = [index for index, image in enumerate(images) if not is_localizer(image)]
    return kept or list(range(len(images)))


def remark_on_scouts(count: int) -> str:
    """What a report says of so many localizers that were left out; empty for none."""
    if not count:
        return ""
    images = "1 localizer (scout) image was" if count == 1 else f"{count} localizer images were"
    return f"{images} left out"
