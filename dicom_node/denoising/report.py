"""Reports of what was done to a series, for people and programs; without the patient's identity."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.errors import NodeError
from dicom_node.store.durable import write_durably

if TYPE_CHECKING:  # what denoises needs torch, which a worker loads with its first model
    from man_core import DenoiseReport, Finding, UncertaintySummary


@dataclass(frozen=True)
class RunReport:
    """Report of one series from source to derived files.

    Attributes:
        source_series_uid: Series Instance UID of the source.
        derived_series_uid: Series Instance UID of the result.
        files: The derived files, in slice order.
        regular: Whether the source's slices lie at one spacing.
        product_version: Version of this product.
        denoise: Report of the denoiser.
        missing: Slices that the source lacked; empty when nothing is known to be missing.
        target_noise_hu: Noise wanted, from which the dose gain follows; None: none was.
        gain_basis: How the dose gain follows from the noise of the series; empty where it does not.
        uncertainty: Spread over seeds; None where it was not asked for.
        remarks: Peculiarities in the reading of the source, for persons; phrases.
        patient_marks: Short hashes by which later images are known to be of another patient.
        blocked: Whether the guard kept the result back; the derived files are then not there.
    """

    source_series_uid: str
    derived_series_uid: str
    files: tuple[Path, ...]
    regular: bool
    product_version: str
    denoise: DenoiseReport
    missing: str = ""
    target_noise_hu: float | None = None
    gain_basis: str = ""
    uncertainty: UncertaintySummary | None = None
    remarks: tuple[str, ...] = ()
    blocked: bool = False
    patient_marks: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; files by number only, as paths can hold names."""
        return {
            "source_series_uid": self.source_series_uid,
            "derived_series_uid": self.derived_series_uid,
            "files": len(self.files),
            "regular_spacing": self.regular,
            "missing": self.missing,
            "target_noise_hu": self.target_noise_hu,
            "gain_basis": self.gain_basis or None,
            "product_version": self.product_version,
            "uncertainty": None if self.uncertainty is None else asdict(self.uncertainty),
            "remarks": list(self.remarks),
            "blocked": self.blocked,
            "patient_marks": dict(self.patient_marks),
            **self.denoise.to_dict(),
        }

    def to_json(self) -> str:
        """Return the report as indented JSON."""
        return json.dumps(self.to_dict(), indent=2) + "\n"


@dataclass(frozen=True)
class KeptReport:
    """The part of an earlier report with which later images of the series are compared.

    Attributes:
        derived_series_uid: Series Instance UID of the result; None where the report lacks it.
        patient_marks: As in :class:`RunReport`; None where an older version wrote the report.
    """

    derived_series_uid: str | None
    patient_marks: Mapping[str, str] | None


class ReportFolder:
    """Run reports on disk, one file per job.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self, token: str, report: RunReport) -> None:
        """Write the report of a job; raises ``StorageError``."""
        write_durably(self._file(token), (report.to_json().encode(),))

    def kept(self, tokens: Sequence[str]) -> list[KeptReport]:
        """Read the reports of jobs, as far as they are still there."""
        files = [file for file in map(self._file, tokens) if file.is_file()]
        found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        return [
            KeptReport(one.get("derived_series_uid"), one.get("patient_marks")) for one in found
        ]

    def _file(self, token: str) -> Path:
        return self._path / f"{token}.json"


class ImplausibleResult(NodeError):  # noqa: N818 - the name says what the result is
    """The guard blocked a result; trying again does not help.

    Attributes:
        report: The run, with the findings.
    """

    def __init__(self, report: RunReport) -> None:
        reasons = "; ".join(finding.sentence for finding in _blocking(report.denoise))
        super().__init__(f"The guard blocked the result: {reasons}")
        self.report = report


def _blocking(report: DenoiseReport) -> list[Finding]:
    return [finding for finding in report.findings if finding.verdict == "block"]
