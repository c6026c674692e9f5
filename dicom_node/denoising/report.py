"""What was done to one series, for people and programs; without the patient's identity."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.errors import NodeError

if TYPE_CHECKING:  # what denoises needs torch, which a worker loads with its first model
    from man_core import DenoiseReport, Finding, UncertaintySummary


@dataclass(frozen=True)
class RunReport:
    """One series from source to derived files.

    Attributes:
        source_series_uid: Series Instance UID of the source.
        derived_series_uid: Series Instance UID of the result.
        files: The derived files, in slice order.
        regular: Whether the source's slices lie at one spacing.
        product_version: Version of this product.
        denoise: What the denoiser reported.
        missing: Which slices the source lacked; empty when nothing is known to be missing.
        uncertainty: Spread over seeds; None where it was not asked for.
        remarks: What a person should know of the way the source was taken; phrases.
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
    uncertainty: UncertaintySummary | None = None
    remarks: tuple[str, ...] = ()
    blocked: bool = False
    patient_marks: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; files by their number only, as paths can hold names."""
        return {
            "source_series_uid": self.source_series_uid,
            "derived_series_uid": self.derived_series_uid,
            "files": len(self.files),
            "regular_spacing": self.regular,
            "missing": self.missing,
            "product_version": self.product_version,
            "uncertainty": None if self.uncertainty is None else asdict(self.uncertainty),
            "remarks": list(self.remarks),
            "blocked": self.blocked,
            "patient_marks": dict(self.patient_marks),
            **self.denoise.to_dict(),
        }

    def to_json(self) -> str:
        """The report as indented JSON."""
        return json.dumps(self.to_dict(), indent=2) + "\n"


class ImplausibleResult(NodeError):  # noqa: N818 - the name says what the result is
    """The guard keeps a result back; trying again does not help.

    Attributes:
        report: What was done, with the findings.
    """

    def __init__(self, report: RunReport) -> None:
        reasons = "; ".join(finding.sentence for finding in _blocking(report.denoise))
        super().__init__(f"the guard blocked the result: {reasons}")
        self.report = report


def _blocking(report: DenoiseReport) -> list[Finding]:
    return [finding for finding in report.findings if finding.verdict == "block"]
