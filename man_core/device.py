"""Where networks run."""

from __future__ import annotations

import torch

from man_core.errors import ModelError

CUDA_MEMORY_SHARE = 0.5
"""Share of the free GPU memory that a batch may take."""


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
