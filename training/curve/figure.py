"""Drawing of a curve: quality against the noise that is left, a line for each dial of a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.curve.measure import Curve, Point
from training.curve.settings import Dial
from training.tables.figures import saved, subplots
from training.tables.results import heading

PANELS: tuple[tuple[str, Callable[[Point], float]], ...] = (
    ("PSNR (dB)", lambda point: point.row.psnr_db),
    ("SSIM", lambda point: point.row.ssim),
    ("LPIPS", lambda point: point.row.lpips),
    ("d' in water", lambda point: point.water.detectability),
)

LINES = {Dial.GAIN: "-", Dial.STRENGTH: ":", Dial.TEXTURE: "--"}
MARKERS = {Dial.GAIN: "o", Dial.STRENGTH: "x", Dial.TEXTURE: "s"}
LABELLED = (Dial.GAIN, Dial.TEXTURE)


def draw_kind(curve: Curve, number: int, path: Path) -> Path:
    """Draw the points of one kind of cases.

    All dials share an axis, the noise that is left in soft tissue; points of gain and texture are
    labelled with their position, a horizontal line is the untouched low dose. What was not
    measured is left out.

    Args:
        curve: Measured curve.
        number: Number of the kind, see ``Curve.kinds``.
        path: File to write, PNG.
    """
    points = [point for point in curve.points if point.kind == curve.kinds()[number]]
    panels = [(title, of) for title, of in PANELS if any(math.isfinite(of(p)) for p in points)]
    figure, axes = subplots(len(panels))
    for axis, (title, of) in zip(axes, panels, strict=True):
        _draw_panel(axis, curve, number, of)
        axis.set(xlabel="noise left, share of the low dose's", title=title)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    row = points[0].row
    figure.suptitle(f"{heading(row)}, {row.slices} slices", fontsize=9)
    return saved(figure, path)


def _draw_panel(axis: Any, curve: Curve, number: int, of: Callable[[Point], float]) -> None:
    kind = curve.kinds()[number]
    low = next(p for p in curve.points if p.kind == kind and p.dial == Dial.NONE)
    axis.axhline(of(low), color="gray", linewidth=1, label=low.model)
    for index, model in enumerate(curve.models):
        for dial, line in LINES.items():
            points = [point for point in curve.of(model, dial) if point.kind == kind]
            if not points:
                continue
            across, up = [p.noise_left for p in points], [of(p) for p in points]
            axis.plot(
                across,
                up,
                line,
                marker=MARKERS[dial],
                markersize=4,
                linewidth=1,
                color=f"C{index}",
                label=f"{model.name} {model.weights_sha256[:8]}, {dial}",
            )
            for point in points if dial in LABELLED else ():
                axis.annotate(f"{point.value:g}", (point.noise_left, of(point)), fontsize=6)
