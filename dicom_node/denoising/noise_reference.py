"""The file of the noise reference: learned from a folder of full-dose series, read by workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset

from dicom_node.ct.attributes import texts
from dicom_node.ct.folder import Folder, scan_folder
from dicom_node.denoising.series_noise import measure_noise
from dicom_node.errors import ConfigurationError, InputError, StorageError
from dicom_node.rules import Skip, decide
from dicom_node.store.durable import write_durably
from dicom_node.work_order import WorkOrder
from man_core import NoiseReference, SeriesNoise, learn_reference

MAX_REFERENCE_BYTES = 1 << 20
"""Maximum size of the file that is read."""

_LASTING = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)


@dataclass(frozen=True)
class Learned:
    """Noise of the full-dose series of some folders.

    Attributes:
        reference: Their noise.
        series: Number of series that count.
        skipped: One sentence for each series or file that does not.
    """

    reference: NoiseReference
    series: int
    skipped: tuple[str, ...]


def load_reference(path: Path) -> NoiseReference:
    """Read the file of a noise reference.

    Raises:
        ConfigurationError: It is missing, or not a noise reference.
        StorageError: The disk, or the system, cannot read it now.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_REFERENCE_BYTES + 1)
    except OSError as error:
        reason = f"The noise reference {path} cannot be read ({error.strerror})"
        if isinstance(error, _LASTING):
            raise ConfigurationError(
                f"{reason}: write it with `dicom-node noise-reference`, or correct"
                " `model.noise_reference`."
            ) from error
        raise StorageError(f"{reason}.") from error
    try:
        if len(content) > MAX_REFERENCE_BYTES:
            raise ValueError("it is too large")
        return NoiseReference.from_json(content.decode())
    except ValueError as error:
        raise ConfigurationError(
            f"The noise reference {path} is damaged or another file: write it again with"
            " `dicom-node noise-reference`."
        ) from error


def save_reference(path: Path, reference: NoiseReference) -> None:
    """Write the file of a noise reference, complete or not at all.

    Raises:
        StorageError: The disk is full or not writable.
    """
    write_durably(path, (reference.to_json().encode(),))


def learn_noise(
    folders: Sequence[Path], *, on_progress: Callable[[int, int], None] | None = None
) -> Learned:
    """Measure the noise of all full-dose series below folders.

    Of each series a few numbers are kept, whatever its length.

    Args:
        folders: Folders of DICOM files.
        on_progress: Called with (series done, series in all) of the folder in hand.

    Raises:
        InputError: A folder is missing or holds no DICOM, or no series counts.
        StorageError: The disk, or the system, cannot read a file now.
    """
    learning = _Learning()
    for folder in folders:
        found = scan_folder(folder)
        learning.skipped += [unread.reason for unread in found.unread]
        for done, files in enumerate(found.series, 1):
            learning.add(found, files, folder)
            if on_progress is not None:
                on_progress(done, len(found.series))
    return learning.learned()


class _Learning:
    """One run of ``learn_noise``."""

    def __init__(self) -> None:
        self.skipped: list[str] = []
        self._seen: set[str] = set()
        self._measured: list[tuple[str, SeriesNoise]] = []

    def add(self, found: Folder, files: Sequence[Path], folder: Path) -> None:
        """Measure one series of a folder, or note why it does not count."""
        try:
            headers = {path: found.take_header(path) for path in files}
            copies = [header[:] for header in headers.values()]
            reason = self._reason_against(copies) or self._measure(files, headers, copies[0])
        except InputError as error:
            reason = str(error).rstrip(".")
        if reason:
            self.skipped.append(f"{files[0].relative_to(folder)}: {reason}.")

    def _reason_against(self, headers: Sequence[Dataset]) -> str:
        decision = decide(headers, otherwise=_ANY_WORK)
        if isinstance(decision, Skip):
            return decision.reason
        uid = texts(headers[0], "SeriesInstanceUID")[0]
        if uid in self._seen:
            return "the series lies in an earlier folder too"
        self._seen.add(uid)
        return ""

    def _measure(self, files: Sequence[Path], headers: dict[Path, Dataset], first: Dataset) -> str:
        noise = measure_noise(files, known=headers)
        if not noise.noise_hu > 0.0:
            return "no soft tissue to measure noise in"
        if noise.thickness_mm is None:
            return "no slice thickness is stated"
        patient = texts(first, "PatientID") or texts(first, "StudyInstanceUID")
        self._measured.append((patient[0], noise))
        return ""

    def learned(self) -> Learned:
        """Return what the series have shown."""
        if not self._measured:
            why = f" {self.skipped[0]}" if self.skipped else ""
            raise InputError(f"No series there can be measured.{why}")
        try:
            reference = learn_reference(self._measured)
        except ValueError as error:
            raise InputError(f"The folders hold {error}: give fewer of them.") from error
        return Learned(reference, len(self._measured), tuple(self.skipped))


_ANY_WORK = WorkOrder("", 1.0, ())
