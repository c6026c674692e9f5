"""A stand-in for the models in a worker: it copies the images and needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dicom_node.denoising.report import RunReport
from dicom_node.ledger.model import Job

Act = Callable[[Job, Callable[[], bool]], None]


class CopyDenoise:
    """Copies the images that it is to derive; ``act`` happens half-way.

    Args:
        act: Called with the job and ``should_stop``.
        uid: Series Instance UID of the result.
    """

    def __init__(
        self, act: Act = lambda _job, _should_stop: None, uid: str = "1.2.826.0.1"
    ) -> None:
        self.calls = 0
        self._act, self._uid = act, uid

    def derived_series_uid(self, _job: Job) -> str:
        return self._uid

    def __call__(
        self,
        files: Sequence[Path],
        folder: Path,
        *,
        job: Job,
        only: Collection[Path] | None,
        should_stop: Callable[[], bool],
    ) -> RunReport:
        self.calls += 1
        self.given, self.only = list(files), only
        targets = tuple(folder / f"{number:04d}.dcm" for number, _ in enumerate(files))
        for path, target in zip(files, targets, strict=True):
            target.write_bytes(path.read_bytes())
        self._act(job, should_stop)
        silent: Any = SimpleNamespace(to_dict=dict)
        return RunReport(job.series_uid, self._uid, targets, True, "0", silent)
