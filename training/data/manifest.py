"""What a training set holds: one JSON file beside its arrays, without any patient identifier."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.errors import TrainingError

MANIFEST = "manifest.json"
SPLITS = ("train", "validation", "test")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SliceEntry(_Strict):
    """One slice of a series.

    Attributes:
        noise_hu: Noise measured in its soft tissue, HU standard deviation.
        noise_table: Soft-tissue standard deviation in HU of its simulated noise image after
            apodisation at each cutoff of ``noise.CUTOFFS``; empty until simulated.
        position_mm: Place along the slice normal; pairs low-dose slices with full-dose ones.
        full_slice: In a low-dose series: index of the same slice in the full-dose partner.
    """

    noise_hu: float = Field(gt=0)
    noise_table: list[float] = []
    position_mm: float = 0.0
    full_slice: int | None = None


class SeriesEntry(_Strict):
    """One series: int16 HU in ``slices/<series>.npy`` [slice, row, column].

    Attributes:
        series: Pseudonym of the series.
        patient: Pseudonym of the patient; whatever shares it shares the split.
        split: ``train``, ``validation`` or ``test``.
        shape: Number of (slices, rows, columns).
        pixel_mm: Distance of pixel centres, mm.
        thickness_mm: Slice thickness, mm, where known.
        kernel: Convolution kernel, where known.
        anatomy: Body part as DICOM names it, where known.
        cutoff: Apodisation whose noise has the texture of the series' own, in units of the
            image's Nyquist frequency (``man_core.physics``).
        dose: Fraction of full dose; below 1 for real low-dose partners.
        full_series: In a low-dose series: pseudonym of its full-dose partner.
        slices: One entry for each slice.
    """

    series: str
    patient: str
    split: Literal["train", "validation", "test"]
    shape: tuple[int, int, int]
    pixel_mm: float = Field(gt=0)
    thickness_mm: float | None = None
    kernel: str | None = None
    anatomy: str | None = None
    cutoff: float = Field(gt=0)
    dose: float = Field(default=1.0, gt=0, le=1)
    full_series: str | None = None
    slices: list[SliceEntry]


class Manifest(_Strict):
    """All series of a set.

    Attributes:
        format: Version of this layout.
        series: In the order in which they were added.
    """

    format: Literal[1] = 1
    series: list[SeriesEntry] = []

    def of(self, split: str, *, low: bool = False) -> Iterator[SeriesEntry]:
        """Full-dose series of a split, or with ``low`` its real low-dose series."""
        return (e for e in self.series if e.split == split and (e.full_series is not None) == low)

    def split_of(self, patient: str) -> str | None:
        """The split a patient already belongs to, by pseudonym."""
        return next((e.split for e in self.series if e.patient == patient), None)

    def summary(self, split: str) -> str:
        """Patients and slices of a split in words."""
        entries = list(self.of(split))
        patients = len({e.patient for e in entries})
        return f"{sum(len(e.slices) for e in entries)} slices of {patients} patients"


def slices_file(root: Path, series: str) -> Path:
    """Where the HU of a series lie."""
    return root / "slices" / f"{series}.npy"


def noise_file(root: Path, series: str, copy: int) -> Path:
    """Where the broadband noise images of a series lie, float16 [slice, row, column]."""
    return root / "noise" / f"{series}-{copy}.npy"


def load_manifest(root: Path) -> Manifest:
    """Read the manifest of a set.

    Raises:
        TrainingError: The folder is no training set or its manifest is damaged.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise TrainingError(f"{root} is no training set: make one with `man-train prepare`")
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, ValueError) as error:
        raise TrainingError(f"the manifest {path} is damaged: prepare the set anew") from error


def save_manifest(root: Path, manifest: Manifest) -> None:
    """Write the manifest so that a crash leaves the old one or the new one, never a part."""
    part = root / f"{MANIFEST}.part"
    text = json.dumps(manifest.model_dump(exclude_defaults=True) | {"format": manifest.format})
    with part.open("w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(root / MANIFEST)
