"""Evaluation of methods on cases: one row for each window."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from man_core import ModelError
from man_core.quality import Scores, Window, hu_bias, measure
from training.errors import TrainingError
from training.evaluate.cases import Case
from training.evaluate.methods import Method

CPU_INFO = Path("/proc/cpuinfo")

SCORES = ("psnr_db", "ssim", "lpips")
"""Fields of a row that may be unmeasured or infinite."""

NOTHING = "There is nothing to evaluate: no series shows soft tissue."


@dataclass(frozen=True)
class Row:
    """One measured row: a method on the cases of one kind, averaged over their slices.

    Attributes:
        split: Origin of the cases.
        dose: Fraction of full dose of the input.
        real: Whether the low dose was measured, not simulated.
        window_hu: Window of the metrics, HU.
        row: ``low dose``, a model's name or another method.
        weights_sha256: Hash of the weights; empty without weights.
        steps: Sampling steps; 0 without sampling.
        psnr_db: Peak signal-to-noise ratio, dB.
        ssim: Structural similarity, Gaussian 1.5 pixels.
        lpips: LPIPS, AlexNet v0.1; NaN if the perceptual weights are missing.
        bias_hu: Mean HU of result minus truth, by tissue.
        slices: Number of slices averaged.
        seconds_per_slice: Time of denoising.
        sampler: Sampler of the model; empty without sampling.
        patients: Number of patients.
        machine: Machine of the time measurement.
        files_sha256: Hash of the images of a folder of results; empty for other methods.
        left_out: Slices that are in no row of the same cases, since a folder of results lacks them.
    """

    split: str
    dose: float
    real: bool
    window_hu: Window
    row: str
    weights_sha256: str
    steps: int
    psnr_db: float
    ssim: float
    lpips: float
    bias_hu: dict[str, float]
    slices: int
    seconds_per_slice: float
    sampler: str = ""
    patients: int = 1
    machine: str = ""
    files_sha256: str = ""
    left_out: int = 0

    @property
    def source_sha256(self) -> str:
        """Hash of what made the row: weights, or files of results; empty without either."""
        return self.weights_sha256 or self.files_sha256

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; null stands for a value that was not measured."""
        return {name: _json_value(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Row:
        """Rebuild a row from ``to_dict``; null becomes NaN."""
        scores = {name: math.nan if fields[name] is None else fields[name] for name in SCORES}
        low, high = fields["window_hu"]
        return cls(**{**fields, **scores, "window_hu": (low, high)})


def _json_value(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class CaseRow:
    """Measurement of a single case.

    Attributes:
        patient: Patient, see ``Case``.
        series: Name of the case.
        row: Values over the slices of this case.
        slices: Values of each slice; empty if an earlier version measured it.
    """

    patient: str
    series: str
    row: Row
    slices: tuple[Scores, ...] = ()


def evaluate(
    methods: Sequence[Method],
    cases: Iterable[Case],
    windows: Sequence[Window],
    on_case: Callable[[int, int | None], None] | None = None,
) -> list[Row]:
    """Measure every method on every case, averaged over cases of one kind; see ``case_rows``."""
    return averaged(case_rows(methods, cases, windows, on_case))


def case_rows(
    methods: Sequence[Method],
    cases: Iterable[Case],
    windows: Sequence[Window],
    on_case: Callable[[int, int | None], None] | None = None,
) -> list[CaseRow]:
    """Measure every method on every case.

    Args:
        methods: See ``methods_of``.
        cases: See ``cases.cases``.
        windows: Windows of the metrics.
        on_case: Callback with (cases done, None): their total is not known in advance.

    Returns:
        A row for each case, method and window.

    Raises:
        TrainingError: There is no case, or a model failed.
    """
    rows: list[CaseRow] = []
    for done, case in enumerate(cases, 1):
        for method in methods:
            rows.extend(rows_of_case(method, case, windows))
        if on_case:
            on_case(done, None)
    if not rows:
        raise TrainingError(NOTHING)
    return rows


def rows_of_case(method: Method, case: Case, windows: Sequence[Window]) -> Iterator[CaseRow]:
    """Measure one method on one case: a row for each window.

    Raises:
        TrainingError: The model failed.
    """
    for window in windows:
        try:
            result, seconds = method.apply(case, window)
        except ModelError as error:
            raise TrainingError(str(error)) from error
        slices = tuple(measure(*pair, window) for pair in zip(result, case.full, strict=True))
        row = Row(
            split=case.split,
            dose=case.dose,
            real=case.real,
            window_hu=window,
            row=method.name,
            weights_sha256=method.weights_sha256,
            steps=method.steps,
            psnr_db=mean_over([one.psnr_db for one in slices]),
            ssim=mean_over([one.ssim for one in slices]),
            lpips=mean_over([one.lpips for one in slices]),
            bias_hu=hu_bias(result, case.full),
            slices=len(case.full),
            seconds_per_slice=seconds / len(case.full),
            sampler=method.sampler,
            machine=machine(method.device),
            files_sha256=method.files_sha256,
        )
        yield CaseRow(case.patient, case.name, row, slices)


def averaged(rows: Sequence[CaseRow]) -> list[Row]:
    """Average rows of the same kind, weighted by their slices."""
    return [_mean(group) for group in of_one_kind(rows)]


def of_one_kind(rows: Sequence[CaseRow]) -> list[list[CaseRow]]:
    """Group the rows that one method has on cases of one split, dose and window."""
    kinds: dict[tuple[object, ...], list[CaseRow]] = {}
    for each in rows:
        row = each.row
        cases = (row.split, row.dose, row.real, row.window_hu)
        method = (row.row, row.steps, row.sampler, row.source_sha256)
        kinds.setdefault((*cases, *method), []).append(each)
    return list(kinds.values())


def _mean(cases: list[CaseRow]) -> Row:
    group = [case.row for case in cases]
    weights = [row.slices for row in group]
    tissues = sorted({name for row in group for name in row.bias_hu})
    return Row(
        **{
            **asdict(group[0]),
            **{name: mean_over([getattr(row, name) for row in group], weights) for name in SCORES},
            "bias_hu": {name: _mean_bias(group, name) for name in tissues},
            "slices": sum(weights),
            "patients": len({case.patient for case in cases}),
            "seconds_per_slice": mean_over([row.seconds_per_slice for row in group], weights),
        }
    )


def _mean_bias(group: list[Row], tissue: str) -> float:
    held = [row for row in group if tissue in row.bias_hu]
    values = [row.bias_hu[tissue] for row in held]
    return mean_over(values, [row.slices for row in held])


def mean_over(values: Sequence[float], weights: Sequence[int] | None = None) -> float:
    """Average values, weighted by the slices behind each."""
    return float(np.average(values, weights=weights))


def machine(device: str) -> str:
    """Describe a device: name of the GPU, or threads and processor."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(torch.device(device))
    threads = torch.get_num_threads()
    return f"{threads} thread{'s' if threads > 1 else ''} of {_processor()}"


@cache
def _processor() -> str:
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
