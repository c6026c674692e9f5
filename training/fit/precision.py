"""Arithmetic of a fit: bfloat16 where it is native, and the choice of fast kernels on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

CPU_FEATURES = ("avx512_bf16", "amx_bf16")
"""CPU features with native bfloat16. Other CPUs emulate it: on an AMD EPYC with AVX2 a step of
man-diffusion takes 14 s with it."""


def mixed_precision(device: torch.device, wanted: bool) -> torch.autocast:
    """Return a bfloat16 autocast, enabled if wanted and native to the device."""
    return torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=wanted and computes_in_bfloat16(device)
    )


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether the device has native bfloat16: a GPU, or a CPU with ``CPU_FEATURES``."""
    if device.type != "cpu":
        return True
    features = torch.cpu.get_capabilities()
    return any(features.get(name, False) for name in CPU_FEATURES)


@contextmanager
def gpu_arithmetic(tf32: bool) -> Iterator[None]:
    """Set TF32 for convolutions and products, and let cuDNN choose kernels by trying them.

    Crops have one shape throughout a fit, so that each convolution is tried once. Without a GPU
    nothing changes. The switches are those of ``man_core.arithmetic`` and of torch.compile: PyTorch
    refuses to read them once TF32 has been set by ``fp32_precision``.

    Args:
        tf32: Whether float32 is rounded to ten bits of mantissa as a factor (not in sums).
    """
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = tf32
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=tf32):
            yield
    finally:
        matmul.allow_tf32 = before
