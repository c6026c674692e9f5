"""Floating-point arithmetic of a network on a GPU: precision and reproducible algorithms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch

from man_core.card import Precision

_FLAGS = RLock()
"""Held while PyTorch's flags are changed: they hold for all threads of the process."""


@contextmanager
def arithmetic(device: torch.device, precision: Precision) -> Iterator[None]:
    """Fix the arithmetic of convolutions and matrix products on a GPU; a CPU is left alone.

    PyTorch rounds the factors of convolutions to TF32 by default, which moves the result of MAN by
    up to 1.7 HU; here this happens only where ``precision`` says so. cuDNN chooses among
    deterministic algorithms and by the shape alone, not by trial runs, so that batches of the same
    shape are computed alike in every process. Threads take turns.

    Args:
        device: Device that the network runs on.
        precision: The declared precision; autocast to bfloat16 is the caller's, since it holds for
            parts of a network only.
    """
    if device.type != "cuda":
        yield
        return
    matmul, cudnn, tf32 = torch.backends.cuda.matmul, torch.backends.cudnn, precision == "tf32"
    with _FLAGS:
        before = matmul.allow_tf32
        matmul.allow_tf32 = tf32
        try:
            with cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32):
                yield
        finally:
            matmul.allow_tf32 = before
