"""Peak memory of a call on a GPU or in this process."""

from __future__ import annotations

import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path

import torch

from benchmarks.machine import peak_mib

RESET_PEAK = "5"
"""Value that resets the peak resident memory of a process in Linux (proc_pid_clear_refs(5))."""


def forget_peak(device: torch.device) -> float:
    """Reset the peak memory; return the memory in use, MiB."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 2**20
    with suppress(AttributeError):  # what earlier runs have freed goes back to the system, in glibc
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text(RESET_PEAK, encoding="ascii")
    return peak_mib(os.getpid())


def peak_above(device: torch.device, before: float) -> float:
    """Return the peak memory since ``forget_peak`` above what was in use then, MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20 - before
    return peak_mib(os.getpid()) - before
