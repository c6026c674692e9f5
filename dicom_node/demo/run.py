"""The demonstration from the simulated patient to the report."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dicom_node.ct.simulated_scan import Scan, write_scan
from dicom_node.demo.measure import Row, beats, compare, read_like, truth_row
from dicom_node.demo.pacs import DemoPacs
from dicom_node.demo.patient import DOSE, FULL_DOSE_MAS, Anatomy, Patient, simulate_patient
from dicom_node.demo.round_trip import PACS_TITLE, DemoFailed, Stages, round_trip
from dicom_node.errors import ConfigurationError, StorageError
from man_core import Volume

REPORT = "report.json"
LOW_DOSE, DENOISED, TRUTH, PICTURES = "low-dose", "denoised", "truth", "pictures"
LOG = "node.log"

WINDOWS = {"abdomen": (40.0, 400.0), "chest": (-600.0, 1500.0), "head": (40.0, 80.0)}
"""Window centre and width for viewers, HU."""


@dataclass(frozen=True)
class DemoOptions:
    """Options of the demonstration.

    Attributes:
        out: Folder for images, pictures and report.
        anatomy: Body region.
        slices: Number of slices.
        size: Number of rows and columns.
        model: Name of the model.
    """

    out: Path
    anatomy: Anatomy = "abdomen"
    slices: int = 24
    size: int = 512
    model: str = "man"


@dataclass(frozen=True)
class DemoResult:
    """Outcome of the demonstration.

    Attributes:
        slices: Number of slices that were sent and came back.
        stages: Duration of each stage.
        rows: Measurements of low dose, denoised and truth.
        pictures: Files of the pictures.
    """

    slices: int
    stages: Stages
    rows: tuple[Row, Row, Row]
    pictures: tuple[Path, ...]

    @property
    def good(self) -> bool:
        """Whether the denoised series is closer to the truth than the low-dose series."""
        return beats(self.rows[1], self.rows[0])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "slices": self.slices,
            "seconds": asdict(self.stages),
            "seconds_per_slice": self.stages.denoise / self.slices,
            "dose": DOSE,
            "window_hu": [-160, 240],
            "rows": [row.to_dict() for row in self.rows],
            "pictures": [path.name for path in self.pictures],
            "good": self.good,
        }


def run_demo(options: DemoOptions, on_stage: Callable[[str], None]) -> DemoResult:
    """Simulate a patient, send the low-dose series through a real node, measure and draw.

    Args:
        options: Contents and output folder.
        on_stage: Called with a short description of each stage.

    Raises:
        ConfigurationError: The output folder holds other files.
        DemoFailed: The series did not come back.
        StorageError: The output folder is not writable.
    """
    from dicom_node.demo.pictures import draw_pictures

    out = options.out
    _prepare(out)
    on_stage("simulating the patient")
    patient = simulate_patient(
        options.anatomy,
        slices=options.slices,
        size=options.size,
        on_slice=lambda done, total: on_stage(f"simulating the patient: slice {done} of {total}"),
    )
    files = _write(patient, options)
    with (
        tempfile.TemporaryDirectory(prefix="dicom-node-demo-") as folder,
        DemoPacs(PACS_TITLE, out / DENOISED) as pacs,
    ):
        stages = round_trip(files, pacs, Path(folder), out / LOG, options.model, on_stage)
        returned = [sorted(paths) for paths in pacs.series.values()]
    if len(returned) != 1:
        raise DemoFailed(f"{len(returned)} series came back to the PACS instead of one.")
    on_stage("comparing with the truth")
    if len(returned[0]) != len(files):
        raise DemoFailed(f"{len(returned[0])} of {len(files)} slices came back to the PACS.")
    truth = _as_stored(patient.truth)
    low, denoised = read_like(truth, files), read_like(truth, returned[0])
    rows = (compare("low dose", low, truth), compare("denoised", denoised, truth), truth_row(truth))
    pictures = draw_pictures(
        out / PICTURES, (low, denoised, truth), rows, options.anatomy, patient.lesion
    )
    result = DemoResult(len(files), stages, rows, pictures)
    (out / REPORT).write_text(json.dumps(result.to_dict(), indent=2) + "\n", encoding="utf-8")
    return result


def _prepare(out: Path) -> None:
    """Prepare the output folder; only results of an earlier demonstration are replaced."""
    own = (LOW_DOSE, DENOISED, TRUTH, PICTURES)
    try:
        foreign = [path.name for path in out.iterdir()] if out.is_dir() else []
        if foreign and not (out / LOG).exists():
            raise ConfigurationError(
                f"{out} holds other files, {foreign[0]} among them: name an empty folder."
            )
        out.mkdir(parents=True, exist_ok=True)
        (out / LOG).touch()
        for name in own:
            shutil.rmtree(out / name, ignore_errors=True)
    except OSError as error:
        raise StorageError(f"{out} cannot be written: {error.strerror}.") from error


def _write(patient: Patient, options: DemoOptions) -> list[Path]:
    """Write the files for the scanner to send, and those of the truth for viewers."""

    def scan(description: str, number: int, mas: float) -> Scan:
        return Scan(
            patient_name=f"PHANTOM^{options.anatomy.upper()}",
            patient_id=f"DEMO-{options.anatomy.upper()}",
            study=f"demo {options.anatomy} {options.slices}x{options.size}",
            description=description,
            series_number=number,
            anatomy=options.anatomy.upper(),
            mas=mas,
            window_hu=WINDOWS[options.anatomy],
        )

    out = options.out
    write_scan(patient.truth, out / TRUTH, scan("Without noise", 2, FULL_DOSE_MAS))
    return write_scan(
        patient.low_dose, out / LOW_DOSE, scan("Quarter dose", 1, FULL_DOSE_MAS * DOSE)
    )


def _as_stored(truth: Volume) -> Volume:
    """The truth as DICOM can store it: clipped at the lowest stored value."""
    return truth.with_hu(truth.hu.clip(min=-1024.0))
