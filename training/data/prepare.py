"""Preparation of a training set from DICOM or NIfTI: memory-mapped HU slices and a manifest."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

from dicom_node.ct.read import find_series
from dicom_node.errors import InputError
from man_core.noise import estimate_noise_and_texture, noise_hu_per_slice
from training.data.manifest import (
    MANIFEST,
    Manifest,
    SeriesEntry,
    SliceEntry,
    load_manifest,
    save_manifest,
    slices_file,
)
from training.data.nifti import find_nifti, read_nifti
from training.data.scan import Scan, UnusableScanError, read_dicom
from training.data.splits import SplitOf
from training.errors import TrainingError

KEY_FILE = "pseudonyms.key"
MIN_SIDE_PIXELS = 64  # smaller slices contain no useful crop
NO_TISSUE_HU = 15.0  # assumed noise of a series without soft tissue: typical of full-dose CT
PADDED_HU = -1024.0


@dataclass
class Prepared:
    """Result of ``prepare``.

    Attributes:
        added: Number of series added.
        slices: Number of slices added.
        skipped: One sentence per series that was left out: its folder or pseudonym, no DICOM
            identifier.
    """

    added: int = 0
    slices: int = 0
    skipped: list[str] = field(default_factory=list)


Progress = Callable[[int, int], None]
Read = Callable[[], Scan]


def prepare(
    inputs: Sequence[Path],
    root: Path,
    split_of: SplitOf,
    *,
    low_dose: float | None = None,
    on_progress: Progress | None = None,
) -> Prepared:
    """Read every CT series below the input folders and add it to the set.

    Args:
        inputs: Folders of DICOM files, compressed or not, or of NIfTI files in HU.
        root: Folder of the set; created if missing, extended if present.
        split_of: Maps a patient ID to a split; None leaves the patient out.
        low_dose: If given, the inputs are real low-dose partners of series already in the set, at
            this fraction of their dose.
        on_progress: Callback with (series done, total series).

    Raises:
        TrainingError: There is no usable series, or a patient would be in two splits.
    """
    scans = _scans_in(inputs)
    root.mkdir(parents=True, exist_ok=True)
    (root / "slices").mkdir(exist_ok=True)
    manifest = load_manifest(root) if (root / MANIFEST).is_file() else Manifest()
    adding = _Adding(root, manifest, _key(root), split_of, low_dose)
    for done, read in enumerate(scans):
        adding.add(read)
        if on_progress:
            on_progress(done + 1, len(scans))
    if not adding.result.added and not manifest.series:
        reasons = " ".join(sorted(set(adding.result.skipped))[:3])
        raise TrainingError(f"None of the {len(scans)} series could be used: {reasons}")
    return adding.result


def _scans_in(inputs: Sequence[Path]) -> list[Read]:
    """Find each series over all inputs; one DICOM series may be spread over several folders."""
    by_uid: dict[str, list[Path]] = {}
    nifti = [found for folder in inputs for found in find_nifti(folder)]
    for folder in inputs:
        for paths in _dicom_in(folder):
            by_uid.setdefault(_series_uid(paths[0]), []).extend(paths)
    return [
        *(partial(read_dicom, paths) for paths in by_uid.values()),
        *(
            partial(read_nifti, path, patient, f"NIfTI file {number} of {len(nifti)}")
            for number, (path, patient) in enumerate(nifti, 1)
        ),
    ]


def _dicom_in(folder: Path) -> list[list[Path]]:
    try:
        return find_series(folder)
    except InputError as error:
        if find_nifti(folder):
            return []
        raise TrainingError(str(error)) from error


@dataclass
class _Adding:
    """One run of ``prepare``: set, key of its pseudonyms, and split."""

    root: Path
    manifest: Manifest
    key: bytes
    split_of: SplitOf
    low_dose: float | None
    result: Prepared = field(default_factory=Prepared)

    def add(self, read: Read) -> None:
        try:
            scan = read()
        except UnusableScanError as error:
            self.result.skipped.append(str(error))
            return
        entry = self._entry(scan)
        if isinstance(entry, str):
            self.result.skipped.append(entry)
            return
        np.save(slices_file(self.root, entry.series), _stored(scan))
        self.manifest.series.append(entry)
        save_manifest(self.root, self.manifest)
        self.result.added += 1
        self.result.slices += len(entry.slices)

    def _entry(self, scan: Scan) -> SeriesEntry | str:
        """Return the entry of a series, or the reason to leave it out."""
        name = self._pseudonym(scan.series)
        if any(entry.series == name for entry in self.manifest.series):
            if self.low_dose is None:
                self._split(self._pseudonym(scan.patient), scan)
            return f"Series {name} is in the set already."
        if min(scan.volume.shape[1:]) < MIN_SIDE_PIXELS:
            return f"Series {name} has slices smaller than {MIN_SIDE_PIXELS} pixels."
        described = _described(scan, name, self._pseudonym(scan.patient))
        return self._full(described, scan) if self.low_dose is None else self._low(described)

    def _full(self, described: dict[str, Any], scan: Scan) -> SeriesEntry | str:
        split = self._split(described["patient"], scan)
        if split is None:
            return f"The split file does not name the patient of series {described['series']}."
        return SeriesEntry.model_validate({"split": split, **described})

    def _split(self, patient: str, scan: Scan) -> str | None:
        """Return the split of a patient; None leaves the patient out."""
        split = self.split_of(scan.patient)
        before = self.manifest.split_of(patient)
        if split is not None and before not in (None, split):
            raise TrainingError(
                f"Patient {patient} is in the split {before} already and cannot be "
                f"in {split} too: a patient belongs to one split only."
            )
        return split

    def _low(self, described: dict[str, Any]) -> SeriesEntry | str:
        for full in self.manifest.series:
            if full.patient == described["patient"] and full.full_series is None:
                matched = _matched(described["slices"], full.slices)
                if matched and full.shape[1:] == described["shape"][1:]:
                    pair = {"split": full.split, "full_series": full.series, "dose": self.low_dose}
                    return SeriesEntry(**{**described, **pair, "slices": matched})
        return f"Low-dose series {described['series']} has no full-dose partner in the set."

    def _pseudonym(self, identifier: str) -> str:
        return hmac.new(self.key, identifier.encode(), hashlib.sha256).hexdigest()[:12]


def _described(scan: Scan, name: str, patient: str) -> dict[str, Any]:
    hu, spacing = scan.volume.hu, scan.volume.spacing_mm
    return {
        "series": name,
        "patient": patient,
        "shape": scan.volume.shape,
        "pixel_mm": math.sqrt(spacing[1] * spacing[2]),
        "thickness_mm": scan.condition.thickness_mm,
        "kernel": scan.condition.kernel,
        "anatomy": scan.condition.anatomy,
        "cutoff": estimate_noise_and_texture(hu).cutoff,
        "slices": [
            SliceEntry(noise_hu=noise, position_mm=place)
            for noise, place in zip(_noises(hu), scan.positions_mm, strict=True)
        ],
    }


def _matched(low: list[SliceEntry], full: list[SliceEntry]) -> list[SliceEntry]:
    """Return low-dose slices with the index of their full-dose slice; [] unless all have one."""
    places = {round(entry.position_mm, 2): index for index, entry in enumerate(full)}
    indices = [places.get(round(entry.position_mm, 2)) for entry in low]
    if None in indices:
        return []
    return [
        entry.model_copy(update={"full_slice": index})
        for entry, index in zip(low, indices, strict=True)
    ]


def _noises(hu: NDArray[np.float32]) -> list[float]:
    """Measure the noise of each slice, HU; a typical value if the series shows no soft tissue."""
    return [float(noise) or NO_TISSUE_HU for noise in noise_hu_per_slice(hu)]


def _stored(scan: Scan) -> NDArray[np.int16]:
    hu = np.where(scan.padding, PADDED_HU, scan.volume.hu)
    return np.clip(np.rint(hu), -32768, 32767).astype(np.int16)


def _series_uid(path: Path) -> str:
    return str(dcmread(path, specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)


def _key(root: Path) -> bytes:
    """Load or create the secret key of the pseudonyms, which prevents guessing of patient IDs."""
    path = root / KEY_FILE
    if not path.is_file():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32), encoding="ascii")
    return bytes.fromhex(path.read_text(encoding="ascii"))
