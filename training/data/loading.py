"""Batches in time: prepared in advance, on the device if it has room for the slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import torch

from training.data.batch import Batch, BatchSource
from training.data.dataset import CropSource
from training.data.device_crops import DeviceCropSource, has_room
from training.data.packing import PackedPlaces, Packer, packed_by_process, prepare_process
from training.data.places import Places
from training.data.processes import process_pool
from training.settings import Recipe

VALIDATION_SEED = 7_919
"""Seed of the held-out crops, which are the same in every fit."""

MAX_DRAWING_PROCESSES = 4
"""Processes that draw places for a GPU; one draws a batch of 128 in some 20 ms."""

BATCHES_AHEAD = 16
"""Batches of places drawn in advance for a GPU."""

T = TypeVar("T")


class Ahead(Generic[T]):
    """Results of a function of a number, computed in advance.

    Args:
        make: Function.
        pool: Threads or processes that compute it.
        count: Results computed in advance.
        stride: Difference of consecutive numbers.
    """

    def __init__(
        self, make: Callable[[int], T], pool: Executor, count: int, stride: int = 1
    ) -> None:
        self._make = make
        self._pool = pool
        self._count = count
        self._stride = stride
        self._ahead: dict[int, Future[T]] = {}

    def __call__(self, index: int) -> T:
        """Return the result of a number and start to compute the following ones."""
        for number in range(index, index + self._count * self._stride + 1, self._stride):
            if number not in self._ahead:
                self._ahead[number] = self._pool.submit(self._make, number)
        for number in [n for n in self._ahead if n < index]:
            self._ahead.pop(number).cancel()
        return self._ahead.pop(index).result()


class Prefetched:
    """Batch source that prepares the next batches in other threads.

    Args:
        source: Source of the batches.
        threads: Number of threads, and of batches prepared in advance.
        stride: Difference of consecutive batch numbers.
    """

    def __init__(self, source: BatchSource, threads: int = 1, stride: int = 1) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="batches")
        self._ahead = Ahead(source.batch, self._pool, threads, stride)

    def batch(self, index: int) -> Batch:
        """Return batch number ``index`` and start to prepare the following ones."""
        return self._ahead(index)

    def __enter__(self) -> Prefetched:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def fit_batches(
    root: Path, recipe: Recipe, device: torch.device, *, workers: int, stride: int = 1
) -> Iterator[BatchSource]:
    """Provide the batches of the training split.

    On a GPU with room for the slices, processes draw the places and the GPU makes the crops;
    otherwise threads make them.

    Args:
        root: Folder of the set.
        recipe: Recipe of the fit.
        device: Device of the fit.
        workers: Maximum number of threads or processes.
        stride: Difference of consecutive batch numbers.

    Raises:
        TrainingError: As ``Places``.
    """
    described = (root, recipe.data, recipe.seed, "train")
    if device.type == "cuda":
        packer = Packer(Places(*described))
        if has_room(packer, device):
            processes = min(workers, MAX_DRAWING_PROCESSES)
            with device_batches(packer, device, processes=processes, stride=stride) as source:
                yield source
            return
    with Prefetched(CropSource(*described), workers, stride) as source:
        yield source


@contextmanager
def device_batches(
    packer: Packer, device: torch.device, *, processes: int, stride: int = 1
) -> Iterator[DeviceCropSource]:
    """Provide batches made on a device, whose places are drawn in advance by processes.

    Places follow from the number of the batch alone. If a process has been ended, for instance by a
    SIGTERM to all processes of a fit, they are drawn here, so that the fit can finish its step.

    Args:
        packer: Places of the split.
        device: Device that holds the slices.
        processes: Number of processes.
        stride: Difference of consecutive batch numbers.
    """
    places = packer.places
    described = (places.root, places.data, places.seed, places.split)
    with process_pool(processes, prepare_process, *described) as pool:
        ahead = Ahead(packed_by_process, pool, BATCHES_AHEAD, stride)

        def drawn(index: int) -> PackedPlaces:
            try:
                return ahead(index)
            except BrokenProcessPool:
                return packer.packed(index)

        yield DeviceCropSource(packer, device, drawn)


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
