"""Shape of a batch on a GPU, from the measured memory of one slice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

PROBE_PIXELS = 512
"""Side of the slice whose memory is measured: the matrix of nearly all CT."""

MEMORY_MARGIN = 1.5
"""Factor on the measured memory, for slices of another size and for what the allocator cannot use
again."""

MAX_MEMORY_SHARE = 0.5
"""Maximum share of a device's memory for one batch; other processes need some too."""

MAX_BATCH_PIXELS = 16 * 512 * 512
"""Maximum size of a batch. Larger ones are hardly faster, and a single late slice takes the time of
a whole batch."""

MAX_BATCH_SLICES = 64


class DeviceMemory(Protocol):
    """Memory of a device, in bytes."""

    @property
    def total_bytes(self) -> int:
        """Memory of the device, whoever uses it."""
        ...

    def peak_bytes(self, run: Callable[[], object]) -> int:
        """Return the additional memory that a call needs at its peak."""
        ...


class CudaMemory:
    """Memory of a CUDA device, as PyTorch's allocator counts it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    @property
    def total_bytes(self) -> int:
        """Memory of the device, whoever uses it."""
        return int(torch.cuda.get_device_properties(self._device).total_memory)

    def peak_bytes(self, run: Callable[[], object]) -> int:
        """Return the additional memory of a call, made twice: the first loads the libraries."""
        run()
        torch.cuda.synchronize(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        run()
        torch.cuda.synchronize(self._device)
        return int(torch.cuda.max_memory_allocated(self._device) - before)


def device_memory(device: torch.device) -> DeviceMemory | None:
    """Return the memory of a GPU; None for a CPU, which needs no batches."""
    return CudaMemory(device) if device.type == "cuda" else None


@dataclass(frozen=True)
class BatchShape:
    """Number of slices in a batch, which depends on model, device and matrix alone.

    It does not depend on the memory that is free at the moment: a GPU chooses its algorithms by the
    shape of a batch, so a slice gets the same bits in every run only in a batch of the same shape.

    Attributes:
        bytes_per_pixel: Working memory of a slice.
        total_bytes: Memory of the device.
    """

    bytes_per_pixel: float
    total_bytes: int

    @classmethod
    def measured(cls, denoise: Callable[[Tensor], object], memory: DeviceMemory) -> BatchShape:
        """Measure the memory of one slice.

        Args:
            denoise: Denoises slices [slice, row, column] in HU.
            memory: Memory of the device on which it does.
        """
        slice_hu = torch.zeros(1, PROBE_PIXELS, PROBE_PIXELS)
        peak = memory.peak_bytes(lambda: denoise(slice_hu))
        return cls(max(peak, 1) / PROBE_PIXELS**2, memory.total_bytes)

    def slices(self, rows: int, columns: int) -> int:
        """Return the number of slices of a batch, a power of two."""
        pixels = rows * columns
        fitting = self.total_bytes * MAX_MEMORY_SHARE / (self.bytes_per_pixel * MEMORY_MARGIN)
        most = min(MAX_BATCH_SLICES, int(min(fitting, MAX_BATCH_PIXELS) / pixels))
        return 1 << max(0, most.bit_length() - 1)
