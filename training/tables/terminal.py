"""Measured rows and comparisons as tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from man_core.card import NO_SAMPLER
from training.evaluate.comparison import Kind, Paired
from training.evaluate.methods import Method
from training.evaluate.run import Row

COLUMNS = ("row", "sampler", "steps", "weights", "PSNR dB", "SSIM", "LPIPS", "s/slice")

DIGITS = 4
"""Decimal places: the third distinguishes models in SSIM and LPIPS."""


def row_tables(rows: Sequence[Row]) -> list[Table]:
    """Make a table for each split, dose and window."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.split, row.dose, row.real, row.window_hu), []).append(row)
    return [_row_table(group) for group in groups.values()]


def _row_table(rows: list[Row]) -> Table:
    first = rows[0]
    low, high = first.window_hu
    title = (
        f"{first.split}, {'real' if first.real else 'simulated'} dose {first.dose:g}, "
        f"window {low:g} to {high:g} HU, {first.slices} slices"
        f"{f' ({first.left_out} left out)' if first.left_out else ''}; mean HU off by tissue"
    )
    tissues = list(first.bias_hu)
    table = Table(*COLUMNS, *tissues, title=title, box=SIMPLE_HEAD, title_justify="left")
    for row in rows:
        table.add_row(
            row.row,
            "" if row.sampler == NO_SAMPLER else row.sampler,
            str(row.steps or ""),
            f"files {row.files_sha256[:8]}" if row.files_sha256 else row.weights_sha256[:8],
            f"{row.psnr_db:.2f}",
            f"{row.ssim:.3f}",
            f"{row.lpips:.3f}",
            f"{row.seconds_per_slice:.2f}" if row.seconds_per_slice else "",
            *(f"{row.bias_hu[name]:+.1f}" for name in tissues),
        )
    return table


def paired_tables(
    pairs: Sequence[Paired], first: Method, second: Method, names: tuple[str, str]
) -> list[Table]:
    """Make a table for each kind of case, with the models and their weights in its title.

    Args:
        pairs: See ``compare``.
        first: Model of the first column.
        second: Model of the second column.
        names: Names of the two columns.
    """
    groups: dict[Kind, list[Paired]] = {}
    for pair in pairs:
        groups.setdefault(pair.kind._replace(window_hu=None), []).append(pair)
    heads = [f"{name}: {described(m)}" for name, m in zip(names, (first, second), strict=True)]
    return [
        _paired_table(f"{kind}; " + "; ".join(heads), found, names)
        for kind, found in groups.items()
    ]


def described(method: Method) -> str:
    """Describe name, weights and steps of a model."""
    of = "files" if method.files_sha256 else "weights"
    weights = f", {of} {method.source_sha256[:8]}" if method.source_sha256 else ""
    steps = f", {method.steps} steps" if method.steps else ""
    return f"{method.name}{weights}{steps}"


def _paired_table(title: str, pairs: list[Paired], names: tuple[str, str]) -> Table:
    first, second = names
    columns = ("low dose", first, second, f"{second} - {first}", "95 % interval", "better", "worse")
    table = Table("figure", *columns, title=title, box=SIMPLE_HEAD, title_justify="left")
    for pair in pairs:
        difference = pair.figure.sign * pair.gain
        low, high = pair.interval
        table.add_row(
            _named(pair),
            *(_number(values.mean()) for values in (pair.low, pair.first, pair.second)),
            _number(difference.mean(), "+"),
            f"{_number(low, '+')} to {_number(high, '+')}" if math.isfinite(low) else "",
            f"{int((pair.gain > 0).sum())} of {len(pair.patients)}",
            f"{int((pair.gain < 0).sum())} of {len(pair.patients)}",
        )
    return table


def _named(pair: Paired) -> str:
    if pair.kind.window_hu is None:
        return pair.figure.name
    low, high = pair.kind.window_hu
    return f"{pair.figure.name}, {low:g} to {high:g} HU"


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.{DIGITS}f}"
