"""Pictures of the demonstration: before, after, difference and truth, with a detail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from dicom_node.demo.measure import Row
from man_core import Volume

WINDOWS: dict[str, tuple[float, float]] = {
    "abdomen": (-160.0, 240.0),
    "chest": (-160.0, 240.0),
    "head": (-20.0, 120.0),
}
"""Display windows from black to white, HU."""

DIFFERENCE_HU = 80.0
"""Display range of the difference on both sides of zero, HU."""

DETAIL_PIXELS = 96
"""Side of the magnified detail, pixels."""

BODY_HU = -500.0
"""Threshold between air and the patient or table; surrounding air is cropped."""

MARGIN_PIXELS = 8
"""Air kept around the patient, pixels."""

BACKGROUND, INK, ACCENT = "#101418", "#e8ecef", "#ffb454"
PANEL_INCHES, DPI = 4.6, 120

Image = NDArray[np.float32]


@dataclass(frozen=True)
class _Panel:
    """One image with its title and display window, HU."""

    name: str
    title: str
    image: Image
    window: tuple[float, float]


@dataclass(frozen=True)
class _View:
    """The crop around the patient, and the corner and side of the detail."""

    rows: slice
    columns: slice
    corner: tuple[int, int]
    side: int


def draw_pictures(
    folder: Path,
    volumes: tuple[Volume, Volume, Volume],
    rows: Sequence[Row],
    anatomy: str,
    look_at: tuple[int, int, int],
) -> tuple[Path, ...]:
    """Draw one slice with a detail.

    Args:
        folder: Created if missing.
        volumes: Low dose, denoised and truth.
        rows: Their measurements, for the titles.
        anatomy: Body region, which determines the window.
        look_at: Slice, row and column at the centre of the detail.

    Returns:
        One picture with all panels, then one per panel.
    """
    matplotlib.use("agg")
    folder.mkdir(parents=True, exist_ok=True)
    low, denoised, truth = (volume.hu[look_at[0]] for volume in volumes)
    view, window = _view(truth, look_at[1:]), WINDOWS[anatomy]
    difference = (-DIFFERENCE_HU, DIFFERENCE_HU)
    taken = f"Difference: low dose − denoised\n±{DIFFERENCE_HU:.0f} HU"
    panels = [
        _Panel("before", f"Low dose\n{_title(rows[0])}", low, window),
        _Panel("after", f"Denoised\n{_title(rows[1])}", denoised, window),
        _Panel("truth", f"Truth, known in a simulation\n{_title(rows[2])}", truth, window),
        _Panel("difference", taken, low - denoised, difference),
    ]
    heading = (
        f"Simulated {anatomy} at a quarter of the dose, slice {look_at[0] + 1},"
        f" window {window[0]:.0f} … {window[1]:.0f} HU"
    )
    together = _draw(folder / "comparison.png", panels, view, heading)
    single = (_draw(folder / f"{panel.name}.png", [panel], view, "") for panel in panels)
    return (together, *single)


def _draw(path: Path, panels: Sequence[_Panel], view: _View, heading: str) -> Path:
    from matplotlib import pyplot

    shape = panels[0].image[view.rows, view.columns].shape
    heights = [shape[0] / shape[1], 1.0]
    figure, axes = pyplot.subplots(
        2,
        len(panels),
        figsize=(PANEL_INCHES * len(panels), PANEL_INCHES * sum(heights) + 0.9),
        height_ratios=heights,
        facecolor=BACKGROUND,
        squeeze=False,
        layout="constrained",
    )
    for whole, detail, panel in zip(axes[0], axes[1], panels, strict=True):
        _draw_whole(whole, panel, view)
        _draw_detail(detail, panel, view)
    if heading:
        figure.suptitle(heading, color=INK, fontsize=14)
    figure.savefig(path, dpi=DPI, facecolor=BACKGROUND)
    pyplot.close(figure)
    return path


def _draw_whole(axis: Any, panel: _Panel, view: _View) -> None:
    low, high = panel.window
    image = panel.image[view.rows, view.columns]
    axis.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="lanczos")
    axis.set_title(panel.title, color=INK, fontsize=11)
    axis.set_axis_off()
    corner = (view.corner[1] - view.columns.start, view.corner[0] - view.rows.start)
    axis.add_patch(
        Rectangle(corner, view.side, view.side, fill=False, edgecolor=ACCENT, linewidth=1.2)
    )


def _draw_detail(axis: Any, panel: _Panel, view: _View) -> None:
    low, high = panel.window
    row, column = view.corner
    image = panel.image[row : row + view.side, column : column + view.side]
    axis.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="bicubic")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set(edgecolor=ACCENT, linewidth=1.5)


def _title(row: Row) -> str:
    parts = [f"noise {row.noise_hu:.1f} HU"]
    if row.psnr_db is not None:
        parts.append(f"PSNR {row.psnr_db:.1f} dB")
    if row.ssim is not None:
        parts.append(f"SSIM {row.ssim:.3f}")
    if row.lpips is not None:
        parts.append(f"LPIPS {row.lpips:.3f}")
    return "   ".join(parts)


def _view(truth: Image, look_at: tuple[int, int]) -> _View:
    rows, columns = (np.flatnonzero((truth > BODY_HU).any(axis=axis)) for axis in (1, 0))
    side = min(DETAIL_PIXELS, *truth.shape)
    corner = tuple(
        int(np.clip(centre - side // 2, 0, size - side))
        for centre, size in zip(look_at, truth.shape, strict=True)
    )
    return _View(
        rows=_around(rows, corner[0], side, truth.shape[0]),
        columns=_around(columns, corner[1], side, truth.shape[1]),
        corner=(corner[0], corner[1]),
        side=side,
    )


def _around(occupied: NDArray[np.intp], first: int, side: int, size: int) -> slice:
    """The range of the patient and the detail, with a margin."""
    ends = [*occupied[[0, -1]], first, first + side - 1] if occupied.size else [0, size - 1]
    return slice(
        max(int(min(ends)) - MARGIN_PIXELS, 0), min(int(max(ends)) + 1 + MARGIN_PIXELS, size)
    )
