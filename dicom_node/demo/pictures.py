"""The demo's pictures: before, after, what was taken away and the truth, with a detail."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from dicom_node.demo.measure import Row
from man_core import Volume

WINDOWS: dict[str, tuple[float, float]] = {
    "abdomen": (-160.0, 240.0),
    "chest": (-160.0, 240.0),
    "head": (-20.0, 120.0),
}
"""Grey values from black to white, HU."""

DIFFERENCE_HU = 80.0
"""Grey value range of the difference picture, to both sides of zero, HU."""

DETAIL = 88
"""Side of the magnified detail, pixels."""

MAGNIFIED = (0.615, 0.02, 0.365, 0.365)
"""Where the magnified detail lies in a panel, as left, bottom, width, height of it."""

BACKGROUND, INK, ACCENT = "#101418", "#e8ecef", "#ffb454"
PANEL_INCHES, DPI = 5.2, 130

Image = NDArray[np.float32]


def draw_pictures(
    folder: Path, low: Volume, denoised: Volume, truth: Volume, rows: Sequence[Row], anatomy: str
) -> tuple[Path, ...]:
    """Draw the middle slice.

    Args:
        folder: Made when it is missing.
        low: Low-dose series.
        denoised: What came back.
        truth: Without noise.
        rows: Numbers of low dose, denoised and truth, for the titles.
        anatomy: Chooses the window.

    Returns:
        One picture with all panels, then one for each.
    """
    matplotlib.use("agg")
    folder.mkdir(parents=True, exist_ok=True)
    index = truth.shape[0] // 2
    window = WINDOWS[anatomy]
    images = [low.hu[index], denoised.hu[index], truth.hu[index]]
    corner = _detail(images[2], window)
    before, after, exact = (_title(row) for row in rows)
    panels = [
        ("before", f"Low dose\n{before}", images[0], window),
        ("after", f"Denoised\n{after}", images[1], window),
        ("truth", f"Truth (known, as the patient is simulated)\n{exact}", images[2], window),
        (
            "difference",
            f"What was taken away: low dose − denoised\n±{DIFFERENCE_HU:.0f} HU",
            images[0] - images[1],
            (-DIFFERENCE_HU, DIFFERENCE_HU),
        ),
    ]
    together = _draw(folder / "comparison.png", panels, corner, anatomy, index)
    return (
        together,
        *(_draw(folder / f"{panel[0]}.png", [panel], corner, anatomy, index) for panel in panels),
    )


def _draw(
    path: Path,
    panels: Sequence[tuple[str, str, Image, tuple[float, float]]],
    corner: tuple[int, int],
    anatomy: str,
    index: int,
) -> Path:
    from matplotlib import pyplot

    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = pyplot.subplots(
        rows,
        columns,
        figsize=(PANEL_INCHES * columns, (PANEL_INCHES + 0.6) * rows),
        facecolor=BACKGROUND,
        squeeze=False,
        layout="constrained",
    )
    for axis, (_, title, image, window) in zip(axes.flat, panels, strict=True):
        _panel(axis, title, image, window, corner)
    if len(panels) > 1:
        low, high = panels[0][3]
        figure.suptitle(
            f"Simulated {anatomy}, quarter dose, slice {index + 1}, {low:.0f} … {high:.0f} HU",
            color=INK,
            fontsize=13,
        )
    figure.savefig(path, dpi=DPI, facecolor=BACKGROUND)
    pyplot.close(figure)
    return path


def _panel(
    axis: Any, title: str, image: Image, window: tuple[float, float], corner: tuple[int, int]
) -> None:
    row, column = corner
    style = {"cmap": "gray", "vmin": window[0], "vmax": window[1]}
    axis.imshow(image, interpolation="lanczos", **style)
    axis.set_title(title, color=INK, fontsize=11)
    axis.set_axis_off()
    side = min(DETAIL, *image.shape)
    axis.add_patch(
        matplotlib.patches.Rectangle(
            (column, row), side, side, fill=False, edgecolor=ACCENT, linewidth=1.2
        )
    )
    inset = axis.inset_axes(MAGNIFIED)
    inset.imshow(image[row : row + side, column : column + side], interpolation="bicubic", **style)
    inset.set_xticks([])
    inset.set_yticks([])
    for spine in inset.spines.values():
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


def _detail(truth: Image, window: tuple[float, float]) -> tuple[int, int]:
    """Upper left corner of the detail: where the soft tissue shows most structure."""
    side = min(DETAIL, *truth.shape)
    inside = np.clip(truth, *window)
    edges = np.abs(np.diff(inside, axis=0))[:, :-1] + np.abs(np.diff(inside, axis=1))[:-1]
    soft = ((truth > window[0]) & (truth < window[1]))[:-1, :-1]
    step = max(side // 8, 1)
    corners = [
        (row, column)
        for row in range(0, truth.shape[0] - side + 1, step)
        for column in range(0, truth.shape[1] - side + 1, step)
    ]

    def interest(corner: tuple[int, int]) -> float:
        row, column = corner
        part = (slice(row, row + side), slice(column, column + side))
        return float(np.where(soft[part], edges[part], 0.0).sum() * soft[part].mean() ** 4)

    return max(corners, key=interest)
