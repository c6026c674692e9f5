"""Choice of the device, and parallel slices on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from man_core.errors import ModelError

MAX_PARALLEL_SLICES = 32
"""Slices processed at the same time on a CPU; beyond this, Python itself is the bottleneck."""


def choose_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` takes a GPU if there is one.

    Raises:
        ModelError: There is no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(
            f"There is no device named {name!r}; use auto, cpu, cuda or cuda:N."
        ) from error
    if device.type not in ("cpu", "cuda"):
        raise ModelError(f"Device {name!r} is not supported; use auto, cpu, cuda or cuda:N.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(f"Device {name!r} is not present on this machine; use auto or cpu.")
    return device


def max_parallel_slices() -> int:
    """Return how many slices ``run_in_parallel`` processes at once: one per torch thread."""
    return min(torch.get_num_threads(), MAX_PARALLEL_SLICES)


def run_in_parallel(run: Callable[[int], Tensor], count: int) -> Tensor:
    """Process slices on the CPU in parallel, each in a single thread.

    Several threads within one slice wait for each other after every layer. On a machine with other
    work, such as receiving, they wait long and keep its cores busy meanwhile.

    Args:
        run: Returns the result of the slice with an index; called in a thread per slice.
        count: Number of slices.

    Returns:
        The concatenated results.
    """
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(
            min(count, max_parallel_slices()), "slice", lambda: torch.set_num_threads(1)
        ) as pool:
            return torch.cat(list(pool.map(run, range(count))))
    finally:
        torch.set_num_threads(threads)  # what threads set becomes the default of later ones
