"""Time from files to files: the function of the offline command in a warm process."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu_check.part import Bench, Figure, OverBudgetError
from benchmarks.gpu_check.targets import FILES_TO_FILES
from benchmarks.machine import REPOSITORY


def figures(bench: Bench) -> Iterator[Figure]:
    """Yield the seconds of the series and of its parts, and the memory of the process."""
    from benchmarks.ct_series import write_phantom
    from benchmarks.series.parts import PARTS
    from benchmarks.series.ways import Checkout, TookTooLongError, Work, by_function

    files = write_phantom(bench.folder / "series", bench.preset.series, size=bench.preset.size)
    bench.budget.check()
    work = Work(Checkout("this", REPOSITORY), files, "man", str(bench.device), bench.budget.left)
    place = bench.folder / "run"
    place.mkdir()
    try:
        run = by_function(work, place)
    except TookTooLongError as error:
        raise OverBudgetError from error
    yield Figure(FILES_TO_FILES, run.seconds, "s")
    for part in PARTS:
        if part in run.parts:
            yield Figure(f"of it {part}", run.parts[part], "s")
    for name, mib in run.peak_mib.items():
        yield Figure(f"peak memory of {name}", mib, "MiB")
    yield Figure("verdict of the guard", run.verdict)
