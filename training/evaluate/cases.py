"""Cases of an evaluation: low-dose volumes with full-dose truth, real or simulated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.ct.read import CtSeries, find_series, read_series
from dicom_node.errors import InputError
from man_core import Condition, Volume, series_seed
from man_core.context import Neighbours, alone, neighbours_of
from man_core.noise import estimate_noise_and_texture, noise_hu_per_slice
from man_core.physics.low_dose import insert_noise
from training.data.manifest import MANIFEST, Manifest, SeriesEntry, load_manifest, slices_file
from training.data.scan import patient_id, slice_position_mm
from training.errors import TrainingError
from training.evaluate.image_facts import ImageFacts
from training.evaluate.matching import Origin

Hu = NDArray[np.float32]

FULL_DOSE = 1.0
"""Dose of cases with full dose as input, which a denoiser should hardly change."""


@dataclass(frozen=True, eq=False)
class Case:
    """One series at one dose.

    Attributes:
        split: Origin, for example ``validation`` or the name of a folder.
        name: Pseudonym or number of the series; seeds the sampling.
        patient: Pseudonym or number of the patient; cases of one patient are not independent.
        dose: Fraction of full dose of ``low``.
        real: Whether ``low`` was measured; otherwise its noise is simulated.
        low: Low-dose volume.
        full: Full-dose HU [slice, row, column].
        condition: Acquisition facts of the scan.
        exam: ``chest``, ``abdomen`` or ``head`` if all slices show it (``exams.by_exam``).
        positions_mm: Position of each slice along the normal; empty: they are no stack.
        origins: Image of each slice, if the low dose is that of a DICOM folder; else empty.
    """

    split: str
    name: str
    patient: str
    dose: float
    real: bool
    low: Volume
    full: Hu
    condition: Condition
    exam: str = ""
    positions_mm: tuple[float, ...] = ()
    origins: tuple[Origin, ...] = ()

    def part(self, slices: Sequence[int]) -> Case:
        """Return the case with some of its slices only."""
        return replace(
            self,
            low=_chosen(self.low, slices),
            full=self.full[list(slices)],
            positions_mm=tuple(self.positions_mm[k] for k in slices) if self.positions_mm else (),
            origins=tuple(self.origins[k] for k in slices) if self.origins else (),
        )

    @property
    def neighbours(self) -> Neighbours:
        """Slices beside each, for a model that sees them; only those that are in the case."""
        if not self.positions_mm:
            return alone(len(self.full))
        return neighbours_of(self.positions_mm, self.condition.thickness_mm)


@dataclass(frozen=True)
class Wanted:
    """Selection of cases.

    Attributes:
        split: Split of a training set.
        doses: Doses to simulate; for real pairs the first one is their dose.
        slices: Maximum number of slices per series, evenly spaced; None: all.
    """

    split: str = "validation"
    doses: tuple[float, ...] = (0.25,)
    slices: int | None = None


def cases(data: Path, full: Path | None, wanted: Wanted) -> Iterator[Case]:
    """Iterate over the cases of a training set or of DICOM folders.

    Args:
        data: Training set; or DICOM folder: of low dose if ``full`` is given, else of full dose.
        full: DICOM folder of the full-dose partners.
        wanted: Selection of cases.

    Raises:
        TrainingError: There is nothing to evaluate.
    """
    if full is not None:
        return _real_cases(data, full, wanted)
    if (data / MANIFEST).is_file():
        return _set_cases(data, wanted)
    return _folder_cases(data, wanted)


def _set_cases(root: Path, wanted: Wanted) -> Iterator[Case]:
    manifest = load_manifest(root)
    entries = list(manifest.of(wanted.split))
    if not entries:
        raise TrainingError(f"The set {root} is empty in the split {wanted.split!r}.")
    for entry in entries:
        volume = _volume_of(root, entry)
        condition = _condition_of(entry)
        known = _Known(wanted.split, entry.series, entry.patient)
        positions = [one.position_mm for one in entry.slices]
        yield from _simulated(known, volume, positions, condition, wanted)
    for entry in manifest.of(wanted.split, low=True):
        yield _set_pair(root, manifest, entry, wanted)


def _set_pair(root: Path, manifest: Manifest, entry: SeriesEntry, wanted: Wanted) -> Case:
    partner = next(e for e in manifest.series if e.series == entry.full_series)
    chosen = _spread(len(entry.slices), wanted.slices)
    matched = [entry.slices[i].full_slice for i in chosen]
    full = np.load(slices_file(root, partner.series), mmap_mode="r")[matched].astype(np.float32)
    low = _chosen(_volume_of(root, entry), chosen)
    condition = _condition_of(entry)
    known = (wanted.split, entry.series, entry.patient)
    positions = tuple(entry.slices[i].position_mm for i in chosen)
    return Case(*known, entry.dose, True, low, full, condition, positions_mm=positions)


def _folder_cases(folder: Path, wanted: Wanted) -> Iterator[Case]:
    patients = _Patients()
    for number, series in enumerate(_series_below(folder), 1):
        known = _Known(folder.name, f"{folder.name}-{number}", patients.name(series))
        positions = [slice_position_mm(header) for header in series.headers]
        own = [_origin(header, header) for header in series.headers]
        yield from _simulated(known, series.volume, positions, series.condition, wanted, own)


def _real_cases(low: Path, full: Path, wanted: Wanted) -> Iterator[Case]:
    found, patients = False, _Patients()
    partners = list(_series_below(full))
    for number, series in enumerate(_series_below(low), 1):
        for partner in partners:
            pairs = _matching_slices(series, partner)
            if not pairs:
                continue
            found = True
            chosen = [pairs[i] for i in _spread(len(pairs), wanted.slices)]
            yield Case(
                split=low.name,
                name=f"{low.name}-{number}",
                patient=patients.name(series),
                dose=wanted.doses[0],
                real=True,
                low=_chosen(series.volume, [i for i, _ in chosen]),
                full=partner.volume.hu[[j for _, j in chosen]],
                condition=series.condition,
                positions_mm=tuple(slice_position_mm(series.headers[i]) for i, _ in chosen),
                origins=tuple(_origin(series.headers[i], partner.headers[j]) for i, j in chosen),
            )
            break
    if not found:
        raise TrainingError(f"No series in {low} has a full-dose partner at its place in {full}.")


class _Known(NamedTuple):
    """Origin of a case: split, name and patient."""

    split: str
    name: str
    patient: str


class _Patients:
    """Numbers of the patients of a folder, in order of appearance."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def name(self, series: CtSeries) -> str:
        number = self._numbers.setdefault(patient_id(series), len(self._numbers) + 1)
        return f"patient-{number}"


def _matching_slices(low: CtSeries, full: CtSeries) -> list[tuple[int, int]]:
    """Return indices (low, full) of slices of one patient at the same place; [] if sizes differ."""
    same_patient = low.headers[0].get("PatientID") == full.headers[0].get("PatientID")
    if not same_patient or low.volume.shape[1:] != full.volume.shape[1:]:
        return []
    places = {round(slice_position_mm(h), 2): j for j, h in enumerate(full.headers)}
    found = [(i, places.get(round(slice_position_mm(h), 2))) for i, h in enumerate(low.headers)]
    return [(i, j) for i, j in found if j is not None]


def _simulated(
    known: _Known,
    volume: Volume,
    positions_mm: Sequence[float],
    condition: Condition,
    wanted: Wanted,
    origins: Sequence[Origin] = (),
) -> Iterator[Case]:
    texture = estimate_noise_and_texture(volume.hu)
    if texture.std_hu <= 0:
        return  # no soft tissue: its full-dose noise, and so its low dose, is unknown
    levels = noise_hu_per_slice(volume.hu)
    chosen = _spread(len(volume.hu), wanted.slices)
    part = _chosen(volume, chosen)
    positions = tuple(positions_mm[index] for index in chosen)
    for dose in wanted.doses:
        if dose == FULL_DOSE:
            same = Case(*known, dose, False, part, part.hu, condition, positions_mm=positions)
            yield replace(same, origins=tuple(origins[k] for k in chosen) if origins else ())
            continue
        seed = series_seed(f"{known.split}/{known.name}", str(dose))
        generator = torch.Generator().manual_seed(seed)
        low = [
            insert_noise(
                torch.from_numpy(part.hu[k : k + 1].copy()),
                volume.spacing_mm[2],
                dose=dose,
                noise_hu=float(levels[index]),
                cutoff=texture.cutoff,
                generator=generator,
            ).numpy()
            for k, index in enumerate(chosen)
        ]
        noisy = part.with_hu(np.concatenate(low))
        yield Case(*known, dose, False, noisy, part.hu, condition, positions_mm=positions)


def _origin(low: Dataset, full: Dataset) -> Origin:
    return Origin(ImageFacts.of(low), str(full.SOPInstanceUID))


def _series_below(folder: Path) -> Iterator[CtSeries]:
    try:
        for paths in find_series(folder):
            yield read_series(paths, contiguous=False)
    except InputError as error:
        raise TrainingError(str(error)) from error


def _spread(count: int, limit: int | None) -> list[int]:
    """Return indices of at most ``limit`` slices, evenly spaced."""
    if limit is None or limit >= count:
        return list(range(count))
    return [int(i) for i in np.linspace(0, count - 1, limit).round()]


def _chosen(volume: Volume, indices: Sequence[int]) -> Volume:
    return Volume(volume.hu[list(indices)], volume.spacing_mm, volume.affine)


def _volume_of(root: Path, entry: SeriesEntry) -> Volume:
    hu = np.load(slices_file(root, entry.series)).astype(np.float32)
    spacing = (entry.thickness_mm or 1.0, entry.pixel_mm, entry.pixel_mm)
    return Volume(hu, spacing, np.diag([*spacing, 1.0]))


def _condition_of(entry: SeriesEntry) -> Condition:
    return Condition(anatomy=entry.anatomy, kernel=entry.kernel, thickness_mm=entry.thickness_mm)
