"""The machine that a time was measured on."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import torch

CPU_FACTS = Path("/proc/cpuinfo")


def machine(device: str) -> str:
    """A device in words: the GPU's name, or threads and processor."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(torch.device(device))
    threads = torch.get_num_threads()
    return f"{threads} thread{'s' if threads > 1 else ''} of {_processor()}"


@cache
def _processor() -> str:
    if CPU_FACTS.is_file():
        for line in CPU_FACTS.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
