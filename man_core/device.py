"""Where networks run."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from man_core.errors import ModelError

CUDA_MEMORY_SHARE = 0.5
"""Share of the free GPU memory that a batch may take."""

MAX_PARALLEL_SLICES = 32
"""Slices that a CPU has in hand at once: with more, Python itself would be what they wait for."""


def choose_device(name: str) -> torch.device:
    """The device of a name; ``auto`` takes a GPU if there is one.

    Raises:
        ModelError: There is no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(
            f"there is no device named {name!r}; use auto, cpu, cuda or cuda:N"
        ) from error
    if device.type not in ("cpu", "cuda"):
        raise ModelError(f"device {name!r} is not supported; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(f"device {name!r} is not present on this machine; use auto or cpu")
    return device


def slices_in_memory(device: torch.device, rows: int, columns: int, bytes_per_pixel: int) -> int:
    """How many slices a batch may hold: one on a CPU, where more gain nothing; on a GPU what fits.

    Args:
        device: Where the network runs.
        rows: Of a slice.
        columns: Of a slice.
        bytes_per_pixel: Working memory that a pixel needs.
    """
    if device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, int(free * CUDA_MEMORY_SHARE / (rows * columns * bytes_per_pixel)))


def max_parallel_slices() -> int:
    """How many slices ``run_in_parallel`` has in hand at once: one for each thread of torch."""
    return min(torch.get_num_threads(), MAX_PARALLEL_SLICES)


def run_in_parallel(run: Callable[[int], Tensor], count: int) -> Tensor:
    """Run slices on the CPU at the same time, each by a single thread.

    Several threads within one slice wait for each other after every layer: on a machine that has
    other work too, such as receiving, they wait long, and burn its cores meanwhile.

    Args:
        run: Gives the result of the slice of an index; called in threads of their own.
        count: Number of slices.

    Returns:
        The results, concatenated.
    """
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(
            min(count, max_parallel_slices()), "slice", lambda: torch.set_num_threads(1)
        ) as pool:
            return torch.cat(list(pool.map(run, range(count))))
    finally:
        torch.set_num_threads(threads)  # what threads set becomes the default of later ones
