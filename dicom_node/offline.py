"""A folder in, derived series out: the node's work without its network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dicom_node.ct.completeness import completeness_of
from dicom_node.ct.folder import Folder, scan_folder
from dicom_node.ct.headers import load, number
from dicom_node.ct.report import ImplausibleResult, RunReport
from dicom_node.denoising import DenoiseOptions, denoise_series
from dicom_node.errors import InputError
from dicom_node.rules import Denoise, Skip, decide
from man_core import Denoiser

OnSeries = Callable[[str, int, int], None]
"""Called with (name of the series or file, slices done, slices in all)."""


@dataclass(frozen=True)
class SeriesOutcome:
    """What became of one series, or of one file that belongs to none.

    Attributes:
        name: Folder below the input and series number, or the file's name.
        destination: Folder of the derived files; None when there are none.
        report: What was done, with what the guard found; None when nothing was.
        skipped: Why the series is not for us; None when it is.
        error: Why it failed; None when it did not.
    """

    name: str
    destination: Path | None = None
    report: RunReport | None = None
    skipped: str | None = None
    error: str | None = None


def denoise_folder(
    source: Path,
    destination: Path,
    denoiser: Denoiser,
    options: DenoiseOptions = DenoiseOptions(),  # noqa: B008 - frozen
    on_progress: OnSeries | None = None,
    *,
    incomplete: bool = False,
) -> list[SeriesOutcome]:
    """Denoise every CT series below a folder.

    The output mirrors the input's folders. Where several series share a folder, each gets a folder
    of its own, named by series number.

    Args:
        source: A folder, or a single file.
        destination: Folder for the derived files, made when missing.
        denoiser: A method ready to run.
        options: Strength and labels.
        on_progress: See ``OnSeries``.
        incomplete: Take what is there of a series with missing slices, and say so in the header.

    Returns:
        One outcome per series, then one per file that looks like DICOM and cannot be read. One
        series that fails does not stop the others.

    Raises:
        InputError: The folder is missing, empty, or holds no DICOM file that can be read.
        ModelUnavailable: The model failed.
        StorageError: The destination is full or not writable.
    """
    folder = scan_folder(source)
    outcomes = []
    for name, files, target in _plan(folder, source, destination):
        headers = [load(path, pixels=False) for path in files]
        wanted = Denoise(denoiser.info.name, options.strength, destinations=())
        decision = decide(headers, otherwise=wanted)
        if isinstance(decision, Skip):
            outcomes.append(SeriesOutcome(name, skipped=decision.reason))
        else:
            missing = completeness_of(headers).missing if incomplete else ""
            outcomes.append(
                _denoise_one(name, files, target, denoiser, options, on_progress, missing)
            )
    broken = [SeriesOutcome(one.path.name, error=one.reason) for one in folder.unread]
    return outcomes + broken


def _denoise_one(
    name: str,
    files: tuple[Path, ...],
    target: Path,
    denoiser: Denoiser,
    options: DenoiseOptions,
    on_progress: OnSeries | None,
    missing: str,
) -> SeriesOutcome:
    def progress(done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(name, done, total)

    try:
        report = denoise_series(
            files, target, denoiser, options, missing=missing, on_progress=progress
        )
    except ImplausibleResult as error:
        return SeriesOutcome(name, report=error.report, error=str(error))
    except InputError as error:
        return SeriesOutcome(name, error=str(error))
    return SeriesOutcome(name, destination=target, report=report)


def _plan(
    folder: Folder, source: Path, destination: Path
) -> Iterator[tuple[str, tuple[Path, ...], Path]]:
    """Name, files and target folder of each series."""
    base = source if source.is_dir() else source.parent
    parents = [files[0].parent.relative_to(base) for files in folder.series]
    shared = {parent for parent, count in Counter(parents).items() if count > 1}
    taken: Counter[Path] = Counter()
    for parent, files in zip(parents, folder.series, strict=True):
        label = f"series-{number(load(files[0], pixels=False), 'SeriesNumber') or 0:.0f}"
        place = parent / label if parent in shared else parent
        taken[place] += 1
        if taken[place] > 1:
            place = place.with_name(f"{label}-{taken[place]}")
        yield (parent / label).as_posix(), files, destination / place
