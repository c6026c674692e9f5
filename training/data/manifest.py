"""Manifest of a training set: a JSON file beside its arrays, without patient identifiers."""

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
            apodisation at the cutoffs of ``texture.table_cutoffs``; empty until simulated.
        position_mm: Position along the slice normal, which pairs low-dose and full-dose slices.
        full_slice: In a low-dose series, index of the same slice in the full-dose partner.
    """

    noise_hu: float = Field(gt=0)
    noise_table: list[float] = []
    position_mm: float = 0.0
    full_slice: int | None = None


class SeriesEntry(_Strict):
    """One series: int16 HU in ``slices/<series>.npy`` [slice, row, column].

    Attributes:
        series: Pseudonym of the series.
        patient: Pseudonym of the patient; all series of a patient are in the same split.
        split: ``train``, ``validation`` or ``test``.
        shape: Number of (slices, rows, columns).
        pixel_mm: Distance of pixel centres, mm.
        thickness_mm: Slice thickness, mm, if known.
        kernel: Convolution kernel, if known.
        anatomy: Body Part Examined, if known.
        cutoff: Texture of the noise of the series (``man_core.noise_texture``), in units of the
            Nyquist frequency of the image.
        dose: Fraction of full dose; below 1 for real low-dose partners.
        full_series: In a low-dose series, pseudonym of its full-dose partner.
        slices: One entry per slice.
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
        """Iterate over full-dose series of a split, or with ``low`` its real low-dose series."""
        return (e for e in self.series if e.split == split and (e.full_series is not None) == low)

    def split_of(self, patient: str) -> str | None:
        """Return the split that a patient belongs to, by pseudonym; None for a new one."""
        return next((e.split for e in self.series if e.patient == patient), None)

    def summary(self, split: str) -> str:
        """Describe the numbers of patients and slices of a split."""
        entries = list(self.of(split))
        patients = len({e.patient for e in entries})
        return f"{sum(len(e.slices) for e in entries)} slices of {patients} patients"


def slices_file(root: Path, series: str) -> Path:
    """Return the file of the HU of a series."""
    return root / "slices" / f"{series}.npy"


def noise_file(root: Path, series: str, copy: int) -> Path:
    """Return the file of the broadband noise of a series, float16 [slice, row, column]."""
    return root / "noise" / f"{series}-{copy}.npy"


def load_manifest(root: Path) -> Manifest:
    """Read the manifest of a set.

    Raises:
        TrainingError: The folder is not a training set or its manifest is damaged.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise TrainingError(f"{root} is not a training set; make one with `man-train prepare`.")
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, ValueError) as error:
        raise TrainingError(f"The manifest {path} is damaged; prepare the set again.") from error


def save_manifest(root: Path, manifest: Manifest) -> None:
    """Write the manifest atomically."""
    part = root / f"{MANIFEST}.part"
    text = json.dumps(manifest.model_dump(exclude_defaults=True) | {"format": manifest.format})
    with part.open("w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(root / MANIFEST)
