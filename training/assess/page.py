"""An assessment as files: JSON for programs, Markdown and a figure for people."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from dicom_node.product import PRODUCT_VERSION
from man_core.quality import SOFT_TISSUE
from training.assess.protocol import Assessment
from training.assess.report import COLUMNS, by_subject, cells_of, json_of, title_of
from training.assess.sweep import Sweep
from training.evaluate.cases import Case
from training.evaluate.methods import Method
from training.evaluate.run import machine
from training.fit.state import save_json, save_text
from training.tables.figures import saved, subplots
from training.tables.results import grid

FORMAT = 1
NAME = "assessment"
SWEEP_FIGURE = "noise-sweep.png"


@dataclass(frozen=True)
class Extent:
    """Wanted extent of an assessment.

    Attributes:
        dose: Fraction of full dose.
        slices: Maximum number of slices of a series.
        lesions: Number of lesions to insert.
        pairs: Number of regions with and without each low-contrast disc; 0: none.
        phantom: Whether phantoms are assessed.
    """

    dose: float
    slices: int
    lesions: int
    pairs: int
    phantom: bool


@dataclass(frozen=True)
class Circumstances:
    """Circumstances of an assessment.

    Attributes:
        split: Split of the training set, or the name of the folder of the images.
        real: Whether low dose was measured, not simulated; None: some of it.
        series: Number of series.
        patients: Number of patients.
        extent: Wanted extent.
        hardware: Device, processor and software.
        date: Day of the assessment, UTC.
    """

    split: str
    real: bool | None
    series: int
    patients: int
    extent: Extent
    hardware: str
    date: str

    def __str__(self) -> str:
        kind = {True: "real dose", False: "simulated dose", None: "real and simulated dose"}
        return (
            f"{self.split}, {kind[self.real]} {self.extent.dose:g}, {self.series} series of"
            f" {self.patients} patients, at most {self.extent.slices} slices of each"
        )


def circumstances_of(method: Method, cases: Sequence[Case], extent: Extent) -> Circumstances:
    """Describe data and machine of an assessment that has just been made."""
    real = {case.real for case in cases}
    software = f"torch {torch.__version__}, Python {platform.python_version()}"
    return Circumstances(
        split=", ".join(dict.fromkeys(case.split for case in cases)),
        real=real.pop() if len(real) == 1 else None,
        series=len(cases),
        patients=len({case.patient for case in cases}),
        extent=extent,
        hardware=f"{machine(method.device)}, {software}",
        date=datetime.now(UTC).date().isoformat(),
    )


def save_assessment(assessment: Assessment, around: Circumstances, folder: Path) -> list[Path]:
    """Write ``assessment.json``, ``assessment.md`` and the figure of the sweep into a folder.

    Each file replaces an earlier one whole; JSON comes last, so that it never names a page that is
    not there.

    Args:
        assessment: Assessment.
        around: Its circumstances.
        folder: Folder, made if needed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = [draw_sweep(assessment, folder / SWEEP_FIGURE)] if assessment.sweep else []
    page, data = folder / f"{NAME}.md", folder / f"{NAME}.json"
    save_text(page, markdown(assessment, around))
    save_json(data, facts_of(assessment, around))
    return [data, page, *figures]


def facts_of(assessment: Assessment, around: Circumstances) -> dict[str, Any]:
    """Return plain values for JSON.

    ``format`` counts changes of the fields; ``version`` is that of the product.
    """
    return {
        "format": FORMAT,
        "version": PRODUCT_VERSION,
        "date": around.date,
        "hardware": around.hardware,
        "data": {
            "split": around.split,
            "real": around.real,
            "series": around.series,
            "patients": around.patients,
            "window_hu": SOFT_TISSUE,
            **asdict(around.extent),
        },
        **json_of(assessment),
    }


def markdown(assessment: Assessment, around: Circumstances) -> str:
    """Return the page as Markdown."""
    broken = assessment.broken
    limits = sum(finding.passed is not None for finding in assessment.findings)
    low, high = SOFT_TISSUE
    parts = [
        f"# Assessment of {title_of(assessment)}",
        f"Made by `man-train assess` of version {PRODUCT_VERSION} on {around.date}; the same"
        f" figures for programs: [{NAME}.json]({NAME}.json).",
        f"{around}; weights `{assessment.weights_sha256 or 'none'}`; PSNR and SSIM in the window"
        f" [{low:g}, {high:g}] HU; {around.hardware}.",
        f"Broken: {len(broken)} of {limits} limits.",
    ]
    if broken:
        parts.append("\n".join(f"- {each.quantity} ({each.subject})" for each in broken))
    for subject, group in by_subject(assessment).items():
        parts += [f"## {subject}", grid(COLUMNS, [cells_of(finding) for finding in group])]
    if assessment.sweep:
        parts += ["## Noise sweep, drawn", f"![Noise left and PSNR over noise]({SWEEP_FIGURE})"]
    return "\n\n".join(parts) + "\n"


def draw_sweep(assessment: Assessment, path: Path) -> Path:
    """Draw the share of the noise that is left, and PSNR, against the noise.

    Args:
        assessment: Assessment with a sweep.
        path: File to write, PNG; an earlier one is replaced whole.
    """
    sweep = assessment.sweep
    figure, axes = subplots(2)
    for row in sweep.rows() if sweep else ():
        noise = [point.noise_hu for point in row.points]
        left = [point.noise_left for point in row.points]
        decibels = [point.psnr_db for point in row.points]
        for axis, values in zip(axes, (left, decibels), strict=True):
            axis.plot(noise, values, marker="o", markersize=4, linewidth=1, label=row.name)
    for axis, title in zip(axes, ("share of added noise left", "PSNR (dB)"), strict=True):
        axis.set(xlabel="noise in soft tissue (HU)", title=title)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    figure.suptitle(f"{title_of(assessment)}, {_series(sweep)}", fontsize=9)
    part = saved(figure, path.with_name(f"part-{path.name}"))
    return part.replace(path)


def _series(sweep: Sweep | None) -> str:
    counts = [point.series for point in sweep.low.points] if sweep else []
    return f"{min(counts)} to {max(counts)} series a level" if counts else "no series"
