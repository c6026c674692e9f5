"""Restriction of an evaluation to slices for which every folder of results has an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from training.errors import TrainingError
from training.evaluate.cases import Case
from training.evaluate.methods import Method
from training.evaluate.run import Row


class Coverage:
    """Slices that all methods have a result for; the others count in no row.

    Args:
        methods: All rows; models have results for every slice.
        partial: Whether slices may be left out; otherwise the first that lacks a result is an
            error.
    """

    def __init__(self, methods: Sequence[Method], *, partial: bool) -> None:
        self._folders = [method.results for method in methods if method.results is not None]
        self._partial = partial
        self._left_out: Counter[tuple[str, float, bool]] = Counter()

    def of(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Yield the covered part of each case that has one.

        Cases that no DICOM image has, such as those of simulated low dose, remain as they are.

        Raises:
            TrainingError: A result is missing and ``partial`` is False, no slice has all results,
                or images are ambiguous (``matching``).
        """
        found, reason = False, None
        for case in cases:
            if not case.origins:
                yield case
                continue
            lacking, first = self._lacking(case)
            reason = reason or first
            kept = [index for index in range(len(case.full)) if index not in lacking]
            self._left_out[case.split, case.dose, case.real] += len(lacking)
            if kept:
                found = True
                yield case.part(kept) if lacking else case
        if reason is not None and not found:
            raise reason

    def stated(self, rows: Iterable[Row]) -> list[Row]:
        """Return rows that state how many slices of their dose were left out."""
        return [
            replace(row, left_out=self._left_out[row.split, row.dose, row.real]) for row in rows
        ]

    def _lacking(self, case: Case) -> tuple[set[int], TrainingError | None]:
        """Return the indices of slices that a folder lacks, and the error that this may be."""
        lacking: set[int] = set()
        first: TrainingError | None = None
        for folder in self._folders:
            missing = folder.lacking(case)
            lacking |= set(missing)
            if missing and first is None:
                first = folder.missing(case, missing)
        if first is not None and not self._partial:
            raise first
        return lacking, first
