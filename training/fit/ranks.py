"""Processes of one fit, as started by ``torchrun``: data parallelism in three collectives.

Every rank has the whole model and draws its own batches; after each backward pass the gradients
are averaged over the ranks, so that all make the same step (synchronous SGD; Li et al. 2020,
"PyTorch Distributed", section 2.2). The networks are small enough that one exchange of all
gradients at once is cheap compared with a step; the task needs no wrapper.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

RANK_TIMEOUT = timedelta(hours=1)
"""Time that a rank waits for the others; the first one validates and saves meanwhile."""

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those of a fit; a single one exchanges nothing.

    Attributes:
        rank: 0 for the one that writes and speaks.
        size: Number of processes.
        on_this_machine: How many of them share this machine's cores.
    """

    rank: int = 0
    size: int = 1
    on_this_machine: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the folder of the run and reports progress."""
        return self.rank == 0

    def average(self, parameters: Iterable[nn.Parameter], scalars: Tensor) -> Tensor:
        """Replace gradients by their mean over ranks; return the mean of scalars [name].

        A missing gradient counts as zero. A value not finite on one rank is so on all.
        """
        if self.size == 1:
            return scalars
        held = list(parameters)
        for parameter in held:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in held if parameter.grad is not None]
        flat = torch.cat([*(g.flatten() for g in gradients), scalars.to(gradients[0].dtype)])
        dist.all_reduce(flat)
        flat /= self.size
        parts = torch.split(flat, [*(g.numel() for g in gradients), scalars.numel()])
        for gradient, part in zip(gradients, parts, strict=False):
            gradient.copy_(part.view_as(gradient))
        return parts[-1]

    def agreed(self, progress: float, stopped: bool) -> tuple[float, bool]:
        """Return the progress of the first rank, and whether any rank was requested to stop."""
        if self.size == 1:
            return progress, stopped
        said = torch.tensor([progress if self.leads else 0.0, float(stopped)], dtype=torch.float64)
        dist.all_reduce(said)
        return float(said[0]), bool(said[1])

    def from_first(self, make: Callable[[], T]) -> T:
        """Call ``make`` on the first rank and return its result on every rank."""
        if self.size == 1:
            return make()
        box: list[Any] = [make() if self.leads else None]
        dist.broadcast_object_list(box, device=torch.device("cpu"))
        made: T = box[0]
        return made


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` started; without it there is one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=RANK_TIMEOUT)
    try:
        yield Ranks(dist.get_rank(), size, int(os.environ["LOCAL_WORLD_SIZE"]))
        dist.barrier()
    finally:
        dist.destroy_process_group()
