"""Statements about measured rows, generated from the numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from training.evaluate.cases import FULL_DOSE
from training.evaluate.run import Row
from training.tables.file import Printed, PrintedRow, Subject, Tolerance

LPIPS_SHARE_BAR = 0.75
SSIM_BAR = 0.0
PSNR_BAR_DB = -0.3
"""Targets of the subject of a table: LPIPS at most this share of the best other row's, SSIM at
least the best other row's, PSNR at most this far below the regression's."""


@dataclass(frozen=True)
class Number:
    """A number that our rows and printed rows have in common.

    Attributes:
        name: Name of the number.
        ours: Returns it for our row; NaN if not measured.
        printed: Returns it for a printed row.
        form: Format string.
    """

    name: str
    ours: Callable[[Row], float]
    printed: Callable[[PrintedRow], float | None]
    form: str

    def __call__(self, value: float | None) -> str:
        """Format a value; a dash if not measured."""
        return "–" if value is None or not math.isfinite(value) else self.form.format(value)


NUMBERS = (
    Number("PSNR", lambda row: row.psnr_db, lambda row: row.psnr_db, "{:.2f}"),
    Number("SSIM", lambda row: row.ssim, lambda row: row.ssim, "{:.3f}"),
    Number("LPIPS", lambda row: row.lpips, lambda row: row.lpips, "{:.3f}"),
    Number(
        "time", lambda row: row.seconds_per_slice or math.nan, lambda row: row.seconds, "{:.4g} s"
    ),
)


def left_out_statement(rows: Sequence[Row]) -> str:
    """Say how many slices are in none of the rows of one dose and window; empty if none is."""
    count = rows[0].left_out
    if not count:
        return ""
    slices = "1 slice of this dose is" if count == 1 else f"{count} slices of this dose are"
    return f"{slices} in no row, in whatever window, since a folder of results lacks them."


def order_statements(rows: Sequence[Row], printed: Printed) -> list[str]:
    """Compare the order of our rows with that of the printed ones: a sentence for each number.

    Args:
        rows: Our rows of one dose and window.
        printed: Printed table; rows of the same names are compared.
    """
    ours = {row.row: row for row in rows}
    theirs = [row for row in printed.rows if row.row in ours]
    if len(theirs) < 2:
        return []
    return [_order(number, ours, theirs) for number in NUMBERS]


def _order(number: Number, ours: dict[str, Row], theirs: Sequence[PrintedRow]) -> str:
    swapped = list(_swapped(number, ours, theirs))
    if not swapped:
        return f"{number.name}: our rows come in the order of the printed ones."
    return f"{number.name}: the order differs. In print, {'; '.join(swapped)}."


def _swapped(number: Number, ours: dict[str, Row], theirs: Sequence[PrintedRow]) -> Iterator[str]:
    for first, second in combinations(theirs, 2):
        printed = number.printed(first), number.printed(second)
        if printed[0] is None or printed[1] is None:
            continue
        here = number.ours(ours[first.row]), number.ours(ours[second.row])
        if (printed[0] - printed[1]) * (here[0] - here[1]) < 0:
            above = "above" if printed[0] > printed[1] else "below"
            yield (
                f"{first.row} lies {above} {second.row} ({number(printed[0])} and"
                f" {number(printed[1])}), with us it is the other way round ({number(here[0])} and"
                f" {number(here[1])})"
            )


def subject_statement(rows: Sequence[Row], subject: Subject) -> str | None:
    """Compare the subject with the best other rows of one dose and window.

    Other rows with the weights of the subject (other steps, its ceiling) do not count.
    """
    own = next((row for row in rows if row.row == subject.row), None)
    if own is None or own.dose == FULL_DOSE:
        return None
    others = [row for row in rows if row is not own and not _same_weights(row, own)]
    parts = [*_lpips_share(own, others), _ssim_gain(own, others)]
    regression = next((row for row in rows if row.row == subject.regression), None)
    if regression:
        gain = own.psnr_db - regression.psnr_db
        parts.append(
            f"PSNR {gain:+.2f} dB to {regression.row}'s (at least {PSNR_BAR_DB:g} dB:"
            f" {_verdict(gain >= PSNR_BAR_DB)})"
        )
    return f"{own.row}: {', '.join(parts)}."


def _same_weights(row: Row, other: Row) -> bool:
    return bool(row.weights_sha256) and row.weights_sha256 == other.weights_sha256


def _lpips_share(own: Row, others: Sequence[Row]) -> Iterator[str]:
    best = min(others, key=lambda row: row.lpips)
    if best.lpips > 0 and math.isfinite(own.lpips):  # else the perceptual weights are not installed
        share = own.lpips / best.lpips
        yield (
            f"LPIPS {share:.2f} of the best other row's, {best.row} (at most {LPIPS_SHARE_BAR:g}:"
            f" {_verdict(share <= LPIPS_SHARE_BAR)})"
        )


def _ssim_gain(own: Row, others: Sequence[Row]) -> str:
    best = max(others, key=lambda row: row.ssim)
    gain = own.ssim - best.ssim
    return (
        f"SSIM {gain:+.3f} to the best other row's, {best.row} (not less:"
        f" {_verdict(gain >= SSIM_BAR)})"
    )


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def tolerance_statement(rows: Sequence[Row], tolerance: Tolerance) -> str | None:
    """Name the fastest row of the same weights whose loss is within the tolerance."""
    best = next((row for row in rows if row.row == tolerance.row), None)
    if best is None:
        return None
    same = [row for row in rows if _same_weights(row, best) and row.steps]
    near = [row for row in same if _loses_little(row, best, tolerance)]
    quickest = min(near, key=lambda row: row.seconds_per_slice)
    return (
        f"The quickest row within {tolerance.psnr_db:g} dB, {tolerance.ssim:g} SSIM and"
        f" {tolerance.lpips:g} LPIPS of {best.row}: {quickest.row}"
        f" ({quickest.seconds_per_slice:.2f} s a slice, {best.row} {best.seconds_per_slice:.2f} s)."
    )


def _loses_little(row: Row, best: Row, tolerance: Tolerance) -> bool:
    return (
        row.psnr_db >= best.psnr_db - tolerance.psnr_db
        and row.ssim >= best.ssim - tolerance.ssim
        and not row.lpips > best.lpips + tolerance.lpips
    )
