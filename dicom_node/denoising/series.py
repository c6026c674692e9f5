"""Denoise one series of files into derived files, for the worker and the offline command."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydicom import Dataset

from dicom_node.ct.attributes import number
from dicom_node.ct.derived.provenance import DeriveOptions, Provenance
from dicom_node.ct.patient import marks_of
from dicom_node.ct.read import open_series
from dicom_node.ct.reader import SliceReader
from dicom_node.ct.stack import CtStack
from dicom_node.ct.uids import derived_uid
from dicom_node.denoising.derivation import Derivation, deriving
from dicom_node.denoising.report import ImplausibleResult, RunReport
from dicom_node.denoising.result_folder import check_results
from dicom_node.errors import InputError, ModelUnavailable, StorageError
from dicom_node.product import PRODUCT_VERSION
from man_core import (
    Condition,
    Denoiser,
    DenoiseReport,
    GuardLimits,
    ModelError,
    UncertaintySummary,
    Verdict,
    denoise_stream,
    sampled_slices,
    series_seed,
    stream_spread_over_seeds,
)


@dataclass(frozen=True)
class GuardOptions:
    """Treatment of implausible results.

    Attributes:
        action: ``block`` writes nothing where a finding blocks, ``flag`` writes everything and
            reports the findings, ``off`` makes no checks.
        limits: Values from which on a result is flagged or blocked.
        seeds: Number of seeds for the spread over seeds; 0: it is not measured.
    """

    action: Literal["block", "flag", "off"] = "block"
    limits: GuardLimits = field(default_factory=GuardLimits)
    seeds: int = 0


@dataclass(frozen=True)
class DenoiseOptions:
    """Site options of denoised series.

    Attributes:
        strength: 0 leaves the source, 1 is the model's own result.
        derived: Labels of the derived series.
        guard: Treatment of implausible results.
        dose_gain: Noise to leave, as if from so many times the dose; None: the default of the
            model's card.
        target_noise_hu: Noise wanted from which the dose gain follows; it only stands in the
            report.
        gain_basis: How the dose gain follows from the series; likewise.
    """

    strength: float = 1.0
    derived: DeriveOptions = field(default_factory=DeriveOptions)
    guard: GuardOptions = field(default_factory=GuardOptions)
    dose_gain: float | None = None
    target_noise_hu: float | None = None
    gain_basis: str = ""


def denoise_series(
    files: Sequence[Path],
    destination: Path,
    denoiser: Denoiser,
    options: DenoiseOptions = DenoiseOptions(),
    *,
    only: Collection[Path] | None = None,
    missing: str = "",
    known: Mapping[Path, Dataset] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> RunReport:
    """Denoise the files of one series and write the derived series.

    All headers are read first. Slices are then read and written in processes of their own while
    others are denoised and checked here, so that the memory does not grow with the series, but for
    its headers. Each file is opened twice: for its small header elements, and for everything else
    in its turn; once more where the spread over seeds is measured.
    The files become visible when the last one is written and the guard has judged.

    Args:
        files: The files of one CT series, in any order.
        destination: Folder for the derived files, made when missing; images of the same derived
            series are replaced.
        denoiser: A method ready to run.
        options: Strength, dose gain and labels.
        only: Derive these files alone; the others serve to check that all belong together. None:
            all.
        missing: Missing slices, in words; the series is then denoised as it is, and its headers
            say so.
        known: Headers that have been loaded already; see ``open_series``.
        on_progress: Called with (slices denoised, slices in all).
        should_stop: Called before every batch of slices.

    Returns:
        The report, which names the derived files.

    Raises:
        InputError: The series cannot be processed, or the destination holds images of another
            one; one sentence, and nothing was written.
        ModelUnavailable: The model failed on this series, or cannot be told that dose gain;
            nothing was written.
        StorageError: The destination is full or not writable; no file is there.
        ImplausibleResult: The guard keeps the result back; nothing was written.
        man_core.Stopped: ``should_stop`` said so; nothing was written.
    """
    source = open_series(files, contiguous=not missing, only=only, known=known or {})
    targets = _targets(source, files, destination)
    check_results(destination, derived_series_uid(source.series_uid, denoiser, options))
    run = _Run(source, denoiser, options, should_stop)
    with (
        SliceReader(
            source,
            sampled_slices(len(source.files)),
            derived=True,
            context_slices=denoiser.info.context_slices,
        ) as reader,
        deriving(reader, targets, run.provenance, options.derived, missing) as derivation,
    ):
        report = run.report(run.denoised(reader, derivation, on_progress), targets, missing)
        if options.guard.action == "block" and report.denoise.verdict is Verdict.BLOCK:
            raise ImplausibleResult(replace(report, files=(), blocked=True))
        if report.denoise.objections:
            sentences = (one.sentence for one in report.denoise.objections)
            derivation.add_guard_objections("; ".join(sentences))
        spread = run.uncertainty()
    return replace(report, uncertainty=spread)


def derived_series_uid(source_uid: str, denoiser: Denoiser, options: DenoiseOptions) -> str:
    """Return the Series Instance UID that a derived series gets, before it is made.

    Args:
        source_uid: Series Instance UID of the source.
        denoiser: A method ready to run.
        options: Strength, dose gain and labels.

    Raises:
        ModelUnavailable: The model cannot be told that dose gain.
    """
    provenance = _provenance(source_uid, denoiser, options)
    return derived_uid(source_uid, provenance.key(options.derived))


def _provenance(source_uid: str, denoiser: Denoiser, options: DenoiseOptions) -> Provenance:
    try:
        return Provenance.of(
            denoiser.info,
            steps=denoiser.steps,
            strength=options.strength,
            seed=series_seed(source_uid, denoiser.info.digest),
            dose_gain=options.dose_gain,
        )
    except ModelError as error:
        raise ModelUnavailable(str(error)) from error


@dataclass(frozen=True)
class _Run:
    """One series on its way through one denoiser."""

    source: CtStack
    denoiser: Denoiser
    options: DenoiseOptions
    should_stop: Callable[[], bool] | None

    @cached_property
    def provenance(self) -> Provenance:
        return _provenance(self.source.series_uid, self.denoiser, self.options)

    @property
    def condition(self) -> Condition:
        return replace(self.source.condition, dose_gain=self.provenance.dose_gain)

    def denoised(
        self,
        reader: SliceReader,
        derivation: Derivation,
        on_progress: Callable[[int, int], None] | None,
    ) -> DenoiseReport:
        """Denoise the slices and hand the results to the derivation."""
        guard = self.options.guard
        try:
            return denoise_stream(
                reader,
                self.denoiser,
                self.condition,
                pixel_mm=self.source.spacing_mm[1],
                seed=self.provenance.seed,
                strength=self.provenance.strength,
                limits=None if guard.action == "off" else guard.limits,
                on_result=derivation.put,
                on_progress=on_progress,
                should_stop=self.should_stop,
            )
        except ModelError as error:
            raise ModelUnavailable(str(error)) from error

    def report(self, result: DenoiseReport, files: tuple[Path, ...], missing: str) -> RunReport:
        """Report the run, as yet without its uncertainty."""
        source = self.source
        return RunReport(
            source_series_uid=source.series_uid,
            derived_series_uid=derived_series_uid(source.series_uid, self.denoiser, self.options),
            files=files,
            regular=source.regular,
            product_version=PRODUCT_VERSION,
            denoise=result,
            missing=missing,
            target_noise_hu=self.options.target_noise_hu,
            gain_basis=self.options.gain_basis,
            remarks=(*source.remarks, *self._beside_remarks()),
            patient_marks=marks_of(source.headers, source.series_uid),
        )

    def _beside_remarks(self) -> Iterator[str]:
        """Say where the order of arrival shows: late slices of a model that sees neighbours."""
        earlier = len(self.source.seen) if self.denoiser.info.context_slices else 0
        if earlier:
            yield (
                f"{earlier} earlier image{'s' * (earlier > 1)} beside these late ones, denoised"
                " without seeing them, and not denoised again"
            )

    def uncertainty(self) -> UncertaintySummary | None:
        """Return the spread over seeds, where the options ask for it.

        The slices are read once more, since few ask for it.
        """
        seeds, first = self.options.guard.seeds, self.provenance.seed
        if not seeds:
            return None
        with SliceReader(self.source, context_slices=self.denoiser.info.context_slices) as reader:
            try:
                return stream_spread_over_seeds(
                    reader,
                    self.denoiser,
                    self.condition,
                    seeds=range(first, first + seeds),
                    strength=self.provenance.strength,
                    on_spread=lambda at, spread: reader.release(range(at, at + len(spread))),
                    should_stop=self.should_stop,
                )
            except ModelError as error:
                raise ModelUnavailable(str(error)) from error


def _targets(source: CtStack, files: Sequence[Path], destination: Path) -> tuple[Path, ...]:
    try:
        destination.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or "not a folder"
        raise StorageError(f"{destination} cannot be made a folder: {why}.") from error
    targets = tuple(destination / name for name in _names(source.headers))
    originals = {path.resolve() for path in files}
    if any(target.resolve() in originals for target in targets):
        raise InputError(f"{destination} holds the original images: write to another folder.")
    return targets


def _names(headers: Sequence[Dataset]) -> list[str]:
    """Name by instance number where every slice has its own, else by place in the series."""
    numbers = [number(header, "InstanceNumber") for header in headers]
    if None in numbers or len(set(numbers)) < len(numbers):
        numbers = [float(place) for place in range(1, len(headers) + 1)]
    return [f"{one:04.0f}.dcm" for one in numbers]
