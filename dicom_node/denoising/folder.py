"""Denoise a folder of DICOM files without a network: the offline command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from pydicom import Dataset

from dicom_node.ct.attributes import number
from dicom_node.ct.folder import Folder, scan_folder
from dicom_node.ct.slices.completeness import completeness_of
from dicom_node.denoising.measured_gain import measured_gain
from dicom_node.denoising.models import device_faults
from dicom_node.denoising.report import ImplausibleResult, RunReport
from dicom_node.denoising.series import DenoiseOptions, denoise_series
from dicom_node.errors import InputError
from dicom_node.rules import Decision, Rule, Skip, decide
from dicom_node.work_order import AUTO, WorkOrder, fixed_gain
from man_core import Denoiser, NoiseReference

Load = Callable[[str], Denoiser]
"""Returns the denoiser of a name."""

OnSeries = Callable[[str, int, int], None]
"""Called with (name of the series or file, slices done, slices in all)."""


@dataclass(frozen=True)
class SeriesOutcome:
    """Outcome of one series, or of one file that belongs to none.

    Attributes:
        name: Folder below the input and series number, or the file's name.
        destination: Folder of the derived files; None when there are none.
        report: Report of the denoising, with the findings of the guard; None without any.
        skipped: Reason for which the series was skipped; None when it was not.
        error: Reason for which it failed; None when it did not.
        rule: Name of the rule that matched the series; empty where none did.
    """

    name: str
    destination: Path | None = None
    report: RunReport | None = None
    skipped: str | None = None
    error: str | None = None
    rule: str = ""


@dataclass(frozen=True)
class Orders:
    """Settings that decide about each series, beside the default work.

    Attributes:
        rules: The site's rules; the first that matches a series wins, as in the node.
        source_ae: AE title of the sender that rules assume; files name none.
        model: Name of the default denoiser; empty: the name on its card.
        load: Returns the denoiser that a rule names; None: every series gets the default one.
        strength: Overrides the strength of rules; None: it does not.
        noise_overrides: Whether the noise wanted of the options overrides that of rules.
        incomplete: Denoise a series with missing slices all the same; its headers then say so.
        auto_gain: Whether the dose gain is ``AUTO`` where no rule sets another noise.
        reference: Noise of full-dose series, for dose gains that are ``AUTO``.
        configured: Name of the model that rules without one mean; empty: the default denoiser.
    """

    rules: Sequence[Rule] = ()
    source_ae: str = ""
    model: str = ""
    load: Load | None = None
    strength: float | None = None
    noise_overrides: bool = False
    incomplete: bool = False
    auto_gain: bool = False
    reference: NoiseReference = field(default_factory=NoiseReference)
    configured: str = ""


def denoise_folder(
    source: Path,
    destination: Path,
    denoiser: Denoiser,
    options: DenoiseOptions = DenoiseOptions(),  # noqa: B008 - frozen
    on_progress: OnSeries | None = None,
    *,
    orders: Orders = Orders(),
) -> list[SeriesOutcome]:
    """Denoise every CT series below a folder.

    The output mirrors the input's folders. Where several series share a folder, each gets a folder
    of its own, named by series number.

    Args:
        source: A folder, or a single file.
        destination: Folder for the derived files, made when missing.
        denoiser: A method ready to run, for every series for which no rule names another.
        options: Strength and noise wanted, where no rule sets others, and labels; the dose gain of
            each series follows from the noise wanted.
        on_progress: See ``OnSeries``.
        orders: Rules, and the options that override them.

    Returns:
        One outcome per series, then one per file that looks like DICOM and cannot be read. One
        series that fails does not stop the others.

    Raises:
        InputError: The folder is missing, empty, or holds no DICOM file that can be read.
        ModelUnavailable: The model failed.
        DeviceFault: The device failed, or has not enough free memory.
        StorageError: The destination is full or not writable.
    """
    folder = scan_folder(source)
    outcomes = [
        _one_series(one, denoiser, options, on_progress, orders)
        for one in _plan(folder, source, destination)
    ]
    broken = [SeriesOutcome(one.path.name, error=one.reason) for one in folder.unread]
    return outcomes + broken


@dataclass(frozen=True)
class _Planned:
    """One series of the input, and where its result goes."""

    name: str
    files: tuple[Path, ...]
    target: Path
    headers: Mapping[Path, Dataset]


def _one_series(
    series: _Planned,
    denoiser: Denoiser,
    options: DenoiseOptions,
    on_progress: OnSeries | None,
    orders: Orders,
) -> SeriesOutcome:
    name = orders.model or denoiser.info.name
    otherwise = WorkOrder(
        orders.configured or name,
        options.strength,
        destinations=(),
        dose_gain=AUTO if orders.auto_gain else options.dose_gain,
        target_noise_hu=options.target_noise_hu,
    )
    decision, missing = _decided(series, otherwise, orders)
    if isinstance(decision, Skip):
        return SeriesOutcome(series.name, skipped=decision.reason, rule=decision.rule)
    order = _overridden(decision, otherwise, orders, name)
    if orders.load is not None and decision.model != name:
        denoiser = orders.load(decision.model)
    chosen = replace(
        options,
        strength=order.strength,
        dose_gain=fixed_gain(order.dose_gain),
        target_noise_hu=order.target_noise_hu,
    )
    wanted = orders.reference if order.dose_gain == AUTO else order.target_noise_hu
    outcome = _denoise_one(series, denoiser, chosen, wanted, on_progress, missing)
    return replace(outcome, rule=decision.rule)


def _overridden(order: WorkOrder, otherwise: WorkOrder, orders: Orders, default: str) -> WorkOrder:
    """Return an order with the strength and noise that override its own.

    The noise belongs to the model beside it: where the default model takes the place of the one
    that a rule names or means, it does not get that one's.
    """
    strength = order.strength if orders.strength is None else orders.strength
    replaced = orders.load is None and order.model != default
    noise = otherwise if replaced or orders.noise_overrides else order
    return replace(
        order,
        strength=strength,
        dose_gain=noise.dose_gain,
        target_noise_hu=noise.target_noise_hu,
    )


def _decided(series: _Planned, otherwise: WorkOrder, orders: Orders) -> tuple[Decision, str]:
    """Return what is done with a series, and what it lacks if it is denoised all the same."""
    # Copies, since reading converts values in place, and patients are compared by the raw bytes.
    headers = [series.headers[path][:] for path in series.files]
    decision = decide(headers, otherwise=otherwise, rules=orders.rules, source_ae=orders.source_ae)
    if isinstance(decision, Skip):
        return decision, ""
    as_it_is = orders.incomplete or decision.incomplete == "denoise"
    return decision, completeness_of(headers).missing if as_it_is else ""


def _denoise_one(
    series: _Planned,
    denoiser: Denoiser,
    options: DenoiseOptions,
    wanted: float | NoiseReference | None,
    on_progress: OnSeries | None,
    missing: str,
) -> SeriesOutcome:
    def progress(done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(series.name, done, total)

    try:
        with device_faults(denoiser.device):
            if wanted is not None:
                copies = {path: header[:] for path, header in series.headers.items()}
                found = measured_gain(series.files, denoiser, wanted, known=copies)
                options = replace(options, dose_gain=found.gain, gain_basis=found.basis)
            report = denoise_series(
                series.files,
                series.target,
                denoiser,
                options,
                missing=missing,
                known=series.headers,
                on_progress=progress,
            )
    except ImplausibleResult as error:
        return SeriesOutcome(series.name, report=error.report, error=str(error))
    except InputError as error:
        return SeriesOutcome(series.name, error=str(error))
    return SeriesOutcome(series.name, destination=series.target, report=report)


def _plan(folder: Folder, source: Path, destination: Path) -> Iterator[_Planned]:
    base = source if source.is_dir() else source.parent
    parents = [files[0].parent.relative_to(base) for files in folder.series]
    shared = {parent for parent, count in Counter(parents).items() if count > 1}
    taken: set[Path] = set()
    for parent, files in zip(parents, folder.series, strict=True):
        headers = {path: folder.take_header(path) for path in files}
        label = f"series-{number(headers[files[0]], 'SeriesNumber') or 0:.0f}"
        place, name = parent / label if parent in shared else parent, parent / label
        if place in taken:
            place = name = _free(parent / label, taken)
        taken.add(place)
        yield _Planned(name.as_posix(), files, destination / place, headers)


def _free(wanted: Path, taken: Collection[Path]) -> Path:
    """Return a folder that no series has yet: several may have one number, or none."""
    names = (wanted.with_name(f"{wanted.name}-{further}") for further in count(2))
    return next(one for one in names if one not in taken)
