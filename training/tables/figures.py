"""Figures: curves of measured tables and panels of images; patient images only elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from man_core import Condition
from man_core.physics.phantom.series import AnatomyName, low_dose_phantom
from man_core.quality import SOFT_TISSUE, Window, measure
from training.evaluate.cases import Case
from training.evaluate.methods import LOW_DOSE, Method
from training.evaluate.run import Row
from training.tables.results import TableResult, heading
from training.tables.statements import NUMBERS, Number

DIFFERENCE_HU = 100.0
PANEL_INCHES = 3.2
DOTS_PER_INCH = 110

PHANTOM_DOSE = 0.25
PHANTOM_SLICES = 1

QUALITY = NUMBERS[:3]

MARKERS = "os^vD*"
"""Markers of the doses of a table; more doses are not drawn."""


@dataclass(frozen=True)
class _Panel:
    title: str
    image: NDArray[np.floating]
    window: Window


def phantom_case(anatomy: AnatomyName, size: int = 512) -> Case:
    """Simulate a patient at a quarter of the dose, for figures that may be published."""
    pair = low_dose_phantom(anatomy, dose=PHANTOM_DOSE, slices=PHANTOM_SLICES, size=size)
    return Case(
        split="phantom",
        name=anatomy,
        patient=anatomy,
        dose=PHANTOM_DOSE,
        real=False,
        low=pair.low,
        full=pair.full.hu,
        condition=Condition(anatomy=anatomy.upper()),
    )


def panel_figure(case: Case, method: Method, window: Window, path: Path) -> Path:
    """Draw the middle slice of a case: low dose, result, full dose and their difference."""
    result, _ = method.apply(case, window)
    middle = len(case.full) // 2
    low, hu, full = case.low.hu[middle], result[middle], case.full[middle]
    panels = (
        _Panel(f"{LOW_DOSE}\n{scores_text(low, full, window)}", low, window),
        _Panel(f"{method.name}\n{scores_text(hu, full, window)}", hu, window),
        _Panel("full dose\n", full, window),
        _Panel(
            f"{LOW_DOSE} − {method.name}\n±{DIFFERENCE_HU:g} HU",
            low - hu,
            (-DIFFERENCE_HU, DIFFERENCE_HU),
        ),
    )
    title = f"{case_title(case, window)}, weights {method.weights_sha256[:8] or 'none'}"
    return _draw_panels(panels, title, path)


def case_title(case: Case, window: Window) -> str:
    """Describe split, dose and window of a case."""
    kind = "real" if case.real else "simulated"
    return f"{case.split}, {kind} dose {case.dose:g}, window [{window[0]:g}, {window[1]:g}] HU"


def scores_text(hu: NDArray[np.floating], full: NDArray[np.floating], window: Window) -> str:
    """Describe the quality of an image in a line."""
    scores = measure(hu, full, window)
    lpips = f", LPIPS {scores.lpips:.3f}" if np.isfinite(scores.lpips) else ""
    return f"{scores.psnr_db:.2f} dB, SSIM {scores.ssim:.3f}{lpips}"


def _draw_panels(panels: Sequence[_Panel], title: str, path: Path) -> Path:
    figure, axes = subplots(len(panels))
    for axis, panel in zip(axes, panels, strict=True):
        axis.imshow(panel.image, cmap="gray", vmin=panel.window[0], vmax=panel.window[1])
        axis.set_title(panel.title, fontsize=9)
        axis.set_axis_off()
    figure.suptitle(title, fontsize=10)
    return saved(figure, path)


def cost_figure(result: TableResult, path: Path) -> Path:
    """Draw quality against seconds per slice: a line for each dose, a point for each row."""
    return _curves(result, path, "seconds a slice", _by_cost)


def dose_figure(result: TableResult, path: Path) -> Path:
    """Draw quality against dose: a line for each row."""
    return _curves(result, path, "dose as a share of full dose", _by_dose)


def time_figure(result: TableResult, path: Path) -> Path:
    """Draw quality against seconds per slice: a colour for each row, a marker for each dose."""
    groups = [rows for rows in result.groups() if rows[0].window_hu == SOFT_TISSUE]
    names = list(dict.fromkeys(row.row for rows in groups for row in rows if _timed(row)))
    figure, axes = subplots(len(QUALITY))
    for axis, number in zip(axes, QUALITY, strict=True):
        for marker, rows in zip(MARKERS, groups, strict=False):
            for row in filter(_timed, rows):
                label = f"{row.row}, {'real' if row.real else 'simulated'} {row.dose:g}"
                style = {"marker": marker, "color": f"C{names.index(row.row)}", "label": label}
                axis.plot([row.seconds_per_slice], [number.ours(row)], linestyle="", **style)
        axis.set(xlabel="seconds a slice", title=number.name, xscale="log")
        _label_logarithmic(axis.xaxis)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=5)
    machines = " and ".join(sorted({row.machine for row in result.rows if row.machine}))
    shown = _names_of([row for rows in groups for row in rows])
    figure.suptitle(f"{result.table.title}, {shown}\n{machines}", fontsize=8)
    return saved(figure, path)


def _timed(row: Row) -> bool:
    return row.seconds_per_slice > 0


_Lines = dict[str, list[Row]]


def _by_cost(rows: Sequence[Row]) -> tuple[_Lines, Callable[[Row], float]]:
    lines: _Lines = {}
    for row in rows:
        if row.steps:
            lines.setdefault(heading(row).partition(",")[2].strip(), []).append(row)
    return lines, lambda row: row.seconds_per_slice


def _by_dose(rows: Sequence[Row]) -> tuple[_Lines, Callable[[Row], float]]:
    lines: _Lines = {}
    for row in rows:
        lines.setdefault(row.row, []).append(row)
    return lines, lambda row: row.dose


def _curves(
    result: TableResult,
    path: Path,
    across: str,
    arranged: Callable[[Sequence[Row]], tuple[_Lines, Callable[[Row], float]]],
) -> Path:
    rows = [row for row in result.rows if row.window_hu == SOFT_TISSUE]
    lines, place = arranged(rows)
    figure, axes = subplots(len(QUALITY))
    for axis, number in zip(axes, QUALITY, strict=True):
        for name, line in lines.items():
            _draw_line(axis, name, sorted(line, key=place), place, number)
        axis.set(xlabel=across, title=number.name, xscale="log")
        _label_logarithmic(axis.xaxis)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    figure.suptitle(f"{result.table.title}, {_names_of(rows)}", fontsize=9)
    return saved(figure, path)


def _label_logarithmic(axis: Any) -> None:
    """Label 1, 2 and 5 of every decade, which do not overlap."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _draw_line(
    axis: Any, name: str, line: Sequence[Row], place: Callable[[Row], float], number: Number
) -> None:
    across, up = [place(row) for row in line], [number.ours(row) for row in line]
    axis.plot(across, up, marker="o", markersize=4, linewidth=1, label=name)


def _names_of(rows: Sequence[Row]) -> str:
    """Name split, window and weights, without which no number may be published."""
    weights = sorted({row.weights_sha256[:8] for row in rows if row.weights_sha256})
    low, high = SOFT_TISSUE
    return f"split {rows[0].split}, window [{low:g}, {high:g}] HU, weights {', '.join(weights)}"


def subplots(count: int) -> tuple[Any, Any]:
    """Return a figure with panels in a row, drawn without a display."""
    matplotlib.use("agg")
    from matplotlib import pyplot

    size = (PANEL_INCHES * count, PANEL_INCHES + 0.7)
    figure, axes = pyplot.subplots(1, count, figsize=size, layout="constrained")
    return figure, axes


def saved(figure: Any, path: Path) -> Path:
    """Write a figure as PNG and close it."""
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})
    pyplot.close(figure)
    return path
