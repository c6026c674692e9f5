"""Derived series under the validators: nothing to say that they do not say of the source too."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom import Dataset
from support.ct_factory import make_series
from support.peers import require_program

from dicom_node.ct.derived.provenance import DeriveOptions
from dicom_node.denoising.series import DenoiseOptions, GuardOptions, denoise_series
from dicom_node.settings import GuardSettings, guard_limits
from man_core import load_denoiser

STANDARD = DeriveOptions()
KEEP_SCANNER = DeriveOptions(equipment="keep_scanner", image_type="SECONDARY")


def clinical(dataset: Dataset) -> None:
    """What scanners add: private elements, an icon, references, dose, several windows."""
    dataset.private_block(0x0019, "SCANNER", create=True).add_new(1, "DS", "1.5")
    dataset.IrradiationEventUID = "1.2.3.4.5"
    dataset.CTDIvol = 3.5
    dataset.WindowCenter, dataset.WindowWidth = ["40", "-600"], ["400", "1500"]
    dataset.StationName = "CT1"
    dataset.InstitutionName = "Phantom Hospital"
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = "20250101", "120000"
    dataset.add_new("SmallestImagePixelValue", "US", 0)
    dataset.LossyImageCompression = "00"
    localizer = Dataset()
    localizer.ReferencedSOPClassUID = dataset.SOPClassUID
    localizer.ReferencedSOPInstanceUID = "1.2.3.4.6"
    dataset.ReferencedImageSequence = [localizer]


def processed(dataset: Dataset) -> None:
    """What is for us only by a rule: an image that somebody else already derived."""
    dataset.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    dataset.DerivationDescription = "edge filter"
    dataset.SeriesDescription = "x" * 64


@pytest.mark.parametrize("labels", [STANDARD, KEEP_SCANNER], ids=["standard", "keep_scanner"])
@pytest.mark.parametrize("options", [
    {},
    {"signed": True, "bits": 16, "intercept": 0.0, "slope": 0.5, "padding": -4000},
    {"orientation": (0, 1, 0, 0, 0, -1), "patient_name": "Müller^Jörg"},
    {"change": clinical},
    {"change": processed},
], ids=["plain", "signed", "sagittal", "clinical", "processed"])  # fmt: skip
def test_validators_find_nothing_new(
    tmp_path: Path, options: dict[str, object], labels: DeriveOptions
) -> None:
    source = make_series(tmp_path / "source", slices=3, **options)  # type: ignore[arg-type]
    report = denoise_series(
        source, tmp_path / "derived", load_denoiser("identity"), DenoiseOptions(derived=labels)
    )
    for original, derived in zip(source, report.files, strict=True):
        assert lines_of("dciodvfy", [derived]) <= lines_of("dciodvfy", [original])
    assert not lines_of("dcentvfy", [*source, *report.files])


def test_validators_find_nothing_new_in_a_flagged_series(tmp_path: Path) -> None:
    source = make_series(tmp_path / "source", slices=3, change=clinical)
    limits = guard_limits(GuardSettings(limits={"noise": (0.5, 5.0)}).limits)
    options = DenoiseOptions(guard=GuardOptions("flag", limits))
    report = denoise_series(source, tmp_path / "derived", load_denoiser("identity"), options)
    assert report.denoise.objections
    for original, derived in zip(source, report.files, strict=True):
        assert lines_of("dciodvfy", [derived]) <= lines_of("dciodvfy", [original])
    assert not lines_of("dcentvfy", [*source, *report.files])


def test_the_validator_would_notice(tmp_path: Path) -> None:
    def spoil(dataset: Dataset) -> None:
        del dataset.RescaleSlope

    (path,) = make_series(tmp_path, slices=1, change=spoil)
    assert any(line.startswith("Error") for line in lines_of("dciodvfy", [path]))


def lines_of(program: str, paths: Sequence[Path]) -> set[str]:
    """Errors and warnings; the exit code alone does not tell."""
    done = subprocess.run(
        [require_program(program), *map(str, paths)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
    )
    lines = (done.stdout + done.stderr).splitlines()
    return {line for line in lines if line.startswith(("Error", "Warning"))}
