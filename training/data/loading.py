"""Prefetching of batches, and the held-out batches of validation."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from training.data.batch import Batch, BatchSource
from training.data.dataset import CropSource
from training.settings import Recipe

VALIDATION_SEED = 7_919
"""Seed of the held-out crops, which are the same in every fit."""


class Prefetched:
    """Batch source that prepares the next batches in other threads.

    Args:
        source: Source of the batches.
        threads: Number of threads, and of batches prepared in advance.
        stride: Difference of consecutive batch numbers.
    """

    def __init__(self, source: BatchSource, threads: int = 1, stride: int = 1) -> None:
        self._source = source
        self._threads = threads
        self._stride = stride
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="batches")
        self._ahead: dict[int, Future[Batch]] = {}

    def batch(self, index: int) -> Batch:
        """Return batch number ``index`` and start to prepare the following ones."""
        for number in range(index, index + self._threads * self._stride + 1, self._stride):
            if number not in self._ahead:
                self._ahead[number] = self._pool.submit(self._source.batch, number)
        for number in [n for n in self._ahead if n < index]:
            self._ahead.pop(number).cancel()
        return self._ahead.pop(index).result()

    def __enter__(self) -> Prefetched:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def held_out_batches(root: Path, recipe: Recipe) -> list[Batch]:
    """Make the batches of the validation split at one dose, the same in every fit.

    Raises:
        TrainingError: The recipe requires validation and the split is empty.
    """
    wanted = recipe.validation
    if wanted.batches == 0:
        return []
    data = recipe.data.model_copy(
        update={
            "lowest_dose": wanted.dose,
            "highest_dose": wanted.dose,
            "untouched_share": 0.0,
            "any_texture_share": 0.0,
            "texture_jitter": 0.0,
            "amplitude_jitter": 0.0,
            "real_share": 0.0,
        }
    )
    source = CropSource(root, data, VALIDATION_SEED, "validation")
    return [source.batch(index) for index in range(wanted.batches)]
