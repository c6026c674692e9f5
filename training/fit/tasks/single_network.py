"""Task with one network that is trained, kept and exported as a whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from man_core.quality import SOFT_TISSUE, psnr
from training.data.batch import Batch, BatchSource, joined
from training.fit.task import Moment, RunFacts, Validation, side_by_side
from training.fit.tasks.initial import load_weights_into, model_weights, restore_part


class SingleNetworkTask(ABC):
    """Behaviour common to methods with one network; a method adds its loss and restoration.

    Args:
        method: Method of the recipe and of the card.
        network: Network in training.
        device: Device to train on.
    """

    def __init__(self, method: str, network: nn.Module, device: torch.device) -> None:
        self.device = device
        self.method = method
        self._module = network.to(device)

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return all parameters of the network."""
        return self._module.parameters()

    def networks(self) -> Sequence[nn.Module]:
        """Return the network."""
        return [self._module]

    def initialise(self, path: Path) -> None:
        """Start from another run, or from an exported model.

        Raises:
            TrainingError: There is no such run or model, or its shape differs from the recipe's.
        """
        load_weights_into(self._module, model_weights(path, self.method), str(path))

    def start(self, source: BatchSource) -> None:  # noqa: B027 - nothing by default
        """Do nothing: no parameter depends on the data."""

    @abstractmethod
    def loss(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """See ``Task.loss``."""

    @abstractmethod
    def restore(self, low: Tensor) -> Tensor:
        """Denoise held-out crops [batch, 1, row, column] in HU on the device of the task."""

    @torch.no_grad()
    def validate(self, batches: Sequence[Batch]) -> Validation:
        """Measure PSNR of result and low dose against full dose."""
        held_out = joined(batches)
        full, low = held_out.full, held_out.low
        result = self.restore(low.to(self.device)).cpu()
        found = psnr(result[:, 0].numpy(), full[:, 0].numpy(), SOFT_TISSUE)
        scalars = {
            "score": -found,
            "psnr_low": psnr(low[:, 0].numpy(), full[:, 0].numpy(), SOFT_TISSUE),
            "psnr": found,
            "bias_hu": float((result - full).mean()),
        }
        row = [crop[0, 0] for crop in (low, result, full)]
        return Validation(scalars, {"low_result_full": side_by_side(row, SOFT_TISSUE)})

    def state_dict(self) -> dict[str, Any]:
        """Return the parameters of the network."""
        return {"network": self._module.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict``."""
        restore_part(self._module, state, "network")

    @abstractmethod
    def export(self, folder: Path, facts: RunFacts) -> Path:
        """See ``Task.export``."""
