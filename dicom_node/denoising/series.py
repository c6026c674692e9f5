"""One series from files to derived files, for the node's worker and the offline command alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydicom import Dataset

from dicom_node.ct.attributes import number
from dicom_node.ct.derived.provenance import DeriveOptions, Provenance
from dicom_node.ct.patient import marks_of
from dicom_node.ct.read import CtSeries, read_series
from dicom_node.ct.uids import derived_uid
from dicom_node.denoising.derivation import Derivation, deriving
from dicom_node.denoising.report import ImplausibleResult, RunReport
from dicom_node.errors import InputError, ModelUnavailable, StorageError
from dicom_node.product import PRODUCT_VERSION
from man_core import (
    Denoiser,
    DenoiseReport,
    GuardLimits,
    ModelError,
    UncertaintySummary,
    Verdict,
    denoise_volume,
    series_seed,
    spread_over_seeds,
)


@dataclass(frozen=True)
class GuardOptions:
    """What follows from an implausible result.

    Attributes:
        action: ``block`` writes nothing where a finding blocks, ``flag`` lets everything pass and
            reports it, ``off`` does not look.
        limits: From which value on a result is flagged or blocked.
        seeds: How many seeds the spread is taken over; 0: not at all.
    """

    action: Literal["block", "flag", "off"] = "block"
    limits: GuardLimits = field(default_factory=GuardLimits)
    seeds: int = 0


@dataclass(frozen=True)
class DenoiseOptions:
    """What a site sets for its denoised series.

    Attributes:
        strength: 0 leaves the source, 1 is the model's own result.
        derived: How the derived series is labelled.
        guard: What follows from an implausible result.
    """

    strength: float = 1.0
    derived: DeriveOptions = field(default_factory=DeriveOptions)
    guard: GuardOptions = field(default_factory=GuardOptions)


def denoise_series(
    files: Sequence[Path],
    destination: Path,
    denoiser: Denoiser,
    options: DenoiseOptions = DenoiseOptions(),
    *,
    only: Collection[Path] | None = None,
    missing: str = "",
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> RunReport:
    """Denoise the files of one series and write the derived series.

    Args:
        files: The files of one CT series, in any order.
        destination: Folder for the derived files, made when missing; same names are replaced.
        denoiser: A method ready to run.
        options: Strength and labels.
        only: Derive these files alone; the others show that all belong together. None: all.
        missing: Which slices are missing; the series is then taken as it is, and says so.
        on_progress: Called with (slices denoised, slices in all).
        should_stop: Asked before every batch of slices.

    Returns:
        The report, which names the derived files.

    Raises:
        InputError: The series cannot be processed; one sentence, and nothing was written.
        ModelUnavailable: The model failed on this series; nothing was written.
        StorageError: The destination is full or not writable; no file is there.
        ImplausibleResult: The guard keeps the result back; nothing was written.
        man_core.Stopped: ``should_stop`` said so; nothing was written.
    """
    source = read_series(files, contiguous=not missing, only=only)
    targets = _targets(source, files, destination)
    seed = series_seed(source.series_uid, denoiser.info.digest)
    provenance = Provenance.of(
        denoiser.info, steps=denoiser.steps, strength=options.strength, seed=seed
    )
    with deriving(source, targets, provenance, options.derived, missing) as derivation:
        result = _denoise(
            source, denoiser, provenance, options.guard, derivation, on_progress, should_stop
        )
        report = RunReport(
            source_series_uid=source.series_uid,
            derived_series_uid=derived_uid(source.series_uid, provenance.key(options.derived)),
            files=targets,
            regular=source.regular,
            product_version=PRODUCT_VERSION,
            denoise=result,
            missing=missing,
            remarks=source.remarks,
            patient_marks=marks_of(source.headers, source.series_uid),
        )
        if options.guard.action == "block" and result.verdict is Verdict.BLOCK:
            raise ImplausibleResult(replace(report, files=(), blocked=True))
        if result.objections:
            derivation.add_guard_objections("; ".join(one.sentence for one in result.objections))
        spread = _uncertainty(source, denoiser, provenance, options.guard.seeds, should_stop)
    return replace(report, uncertainty=spread)


def _denoise(
    source: CtSeries,
    denoiser: Denoiser,
    settings: Provenance,
    guard: GuardOptions,
    derivation: Derivation,
    on_progress: Callable[[int, int], None] | None,
    should_stop: Callable[[], bool] | None,
) -> DenoiseReport:
    try:
        _, report = denoise_volume(
            source.volume,
            denoiser,
            source.condition,
            seed=settings.seed,
            strength=settings.strength,
            padding=source.padding,
            limits=None if guard.action == "off" else guard.limits,
            on_result=derivation.put,
            on_progress=on_progress,
            should_stop=should_stop,
        )
    except ModelError as error:
        raise ModelUnavailable(str(error)) from error
    return report


def _uncertainty(
    source: CtSeries,
    denoiser: Denoiser,
    settings: Provenance,
    seeds: int,
    should_stop: Callable[[], bool] | None,
) -> UncertaintySummary | None:
    if not seeds:
        return None
    try:
        _, summary = spread_over_seeds(
            source.volume,
            denoiser,
            source.condition,
            seeds=range(settings.seed, settings.seed + seeds),
            strength=settings.strength,
            should_stop=should_stop,
        )
    except ModelError as error:
        raise ModelUnavailable(str(error)) from error
    return summary


def _targets(source: CtSeries, files: Sequence[Path], destination: Path) -> tuple[Path, ...]:
    try:
        destination.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or "not a folder"
        raise StorageError(f"{destination} cannot be made a folder: {why}") from error
    targets = tuple(destination / name for name in _names(source.headers))
    originals = {path.resolve() for path in files}
    if any(target.resolve() in originals for target in targets):
        raise InputError(f"{destination} holds the original images: write to another folder")
    return targets


def _names(headers: Sequence[Dataset]) -> list[str]:
    """By instance number where every slice has its own, else by place in the series."""
    numbers = [number(header, "InstanceNumber") for header in headers]
    if None in numbers or len(set(numbers)) < len(numbers):
        numbers = [float(place) for place in range(1, len(headers) + 1)]
    return [f"{one:04.0f}.dcm" for one in numbers]
