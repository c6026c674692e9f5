"""Strips of images: methods side by side, with a zoom on a region and what each leaves wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from man_core import Condition
from man_core.noise import soft_tissue
from man_core.physics.phantom.series import AnatomyName, low_dose_phantom, phantom_lesions
from man_core.quality import Window
from training.evaluate.cases import Case
from training.evaluate.methods import LOW_DOSE, Method
from training.tables.figures import DIFFERENCE_HU, PHANTOM_DOSE, case_title, saved, scores_text

ZOOM = 5
"""The side of a region is this part of the side of the slice."""

PANEL_INCHES = 2.2
SLICE_MM = 3.0
"""Distance of the slices of a phantom."""


class Region(NamedTuple):
    """Centre of a square region of a slice, pixels."""

    row: int
    column: int

    def of(self, hu: NDArray[np.floating]) -> tuple[slice, slice]:
        """Return the region as slices of an image [row, column], moved inside it."""
        sides = [edge // ZOOM for edge in hu.shape]
        first = [
            min(max(0, centre - side // 2), edge - side)
            for centre, side, edge in zip(self, sides, hu.shape, strict=True)
        ]
        return slice(first[0], first[0] + sides[0]), slice(first[1], first[1] + sides[1])


def lesion_case(anatomy: AnatomyName, size: int = 512) -> tuple[Case, Region]:
    """Simulate a patient at a quarter of the dose; return a slice through a lesion, and its place.

    Of the lesions of the phantom, that nearest to its middle is shown.
    """
    x, y, z = min(phantom_lesions(anatomy), key=lambda lesion: abs(lesion.at[2])).at
    away = round(abs(z) / SLICE_MM)
    pair = low_dose_phantom(anatomy, dose=PHANTOM_DOSE, slices=2 * away + 1, size=size)
    whole = Case(
        split="phantom",
        name=f"{anatomy}-lesion",
        patient=anatomy,
        dose=PHANTOM_DOSE,
        real=False,
        low=pair.low,
        full=pair.full.hu,
        condition=Condition(anatomy=anatomy.upper()),
    )
    pixel_mm, middle = pair.full.spacing_mm[1], 0.5 * (size - 1)
    region = Region(round(y / pixel_mm + middle), round(x / pixel_mm + middle))
    return whole.part([2 * away if z > 0 else 0]), region


def tissue_centre(case: Case) -> Region:
    """Return the centre of the soft tissue in the middle slice of a case, or of the slice."""
    plane = case.full[len(case.full) // 2]
    found = np.argwhere(soft_tissue(plane[None])[0])
    rows, columns = found.mean(axis=0) if len(found) else np.array(plane.shape) / 2
    return Region(int(rows), int(columns))


def strip_figure(
    case: Case, methods: Sequence[Method], region: Region, window: Window, path: Path
) -> Path:
    """Draw low dose, methods and full dose: the middle slice, a region, and minus full dose.

    Args:
        case: Case.
        methods: Methods, in the order of the columns.
        region: Region of the second row, marked in the first.
        window: Window, HU.
        path: File to write, PNG.
    """
    middle = len(case.full) // 2
    full = case.full[middle]
    columns = [(LOW_DOSE, case.low.hu[middle])]
    columns += [(method.name, method.apply(case, window)[0][middle]) for method in methods]
    columns.append(("full dose", full))
    figure, axes = _axes(len(columns))
    place = region.of(full)
    for across, (name, hu) in enumerate(columns):
        scores = "" if hu is full else scores_text(hu, full, window).replace(", ", "\n", 1)
        axes[0, across].set_title(f"{name}\n{scores}", fontsize=8, verticalalignment="bottom")
        _show(axes[0, across], hu, window)
        _mark(axes[0, across], place)
        _show(axes[1, across], hu[place], window)
        if hu is not full:
            _show(axes[2, across], hu - full, (-DIFFERENCE_HU, DIFFERENCE_HU))
    weights = ", ".join(method.weights_sha256[:8] or "none" for method in methods)
    figure.suptitle(
        f"{case_title(case, window)}, weights {weights}\nslice, region of 1/{ZOOM}, and difference"
        f" from full dose within ±{DIFFERENCE_HU:g} HU",
        fontsize=9,
    )
    return saved(figure, path)


def _axes(count: int) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    size = (PANEL_INCHES * count, PANEL_INCHES * 3 + 1.1)
    figure, axes = pyplot.subplots(3, count, figsize=size, layout="constrained")
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, axes


def _show(axis: Any, image: NDArray[np.floating], window: Window) -> None:
    axis.imshow(image, cmap="gray", vmin=window[0], vmax=window[1])


def _mark(axis: Any, place: tuple[slice, slice]) -> None:
    from matplotlib.patches import Rectangle

    rows, columns = place
    corner, across, down = (
        (columns.start, rows.start),
        columns.stop - columns.start,
        rows.stop - rows.start,
    )
    axis.add_patch(Rectangle(corner, across, down, fill=False, edgecolor="yellow", linewidth=0.8))
