"""RED-CNN as a task of the training loop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from man_core.card import NO_SAMPLER, ModelCard
from man_core.hu import HuRange
from man_core.nets.redcnn import RedCnn, RedCnnConfig
from man_core.quality import SOFT_TISSUE, psnr
from training.data.batch import Batch, BatchSource, joined
from training.errors import RecipeError
from training.fit.task import Moment, RunFacts, Validation, side_by_side
from training.fit.tasks.export import export_model
from training.fit.tasks.initial import load_weights_into, model_weights, restore_part
from training.objectives.regression import RegressionObjective, regression_loss
from training.settings import Recipe, read_objective


class RedCnnTask:
    """Trains the network to predict the full-dose crop from its low-dose partner."""

    def __init__(
        self, config: RedCnnConfig, objective: dict[str, Any], device: torch.device
    ) -> None:
        self.device = device
        self.network = RedCnn(config).to(device)
        self.objective = read_objective(RegressionObjective, objective)

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return all parameters of the network."""
        return self.network.parameters()

    def networks(self) -> Sequence[nn.Module]:
        """Return the network."""
        return [self.network]

    def initialise(self, path: Path) -> None:
        """Start from another run, or from an exported model.

        Raises:
            TrainingError: There is no such run or model, or its shape differs from the recipe's.
        """
        load_weights_into(self.network, model_weights(path, "redcnn"), str(path))

    def start(self, source: BatchSource) -> None:
        """Do nothing: no parameter depends on the data."""

    def loss(self, batch: Batch, moment: Moment) -> dict[str, torch.Tensor]:
        """Compute the squared error against full dose."""
        return regression_loss(self.network, batch.full, batch.low, self.objective)

    @torch.no_grad()
    def validate(self, batches: Sequence[Batch]) -> Validation:
        """Measure PSNR of result and low dose against full dose."""
        held_out = joined(batches)
        full, low = held_out.full, held_out.low
        span = HuRange()
        result = span.to_hu(self.network.restore(span.to_network(low.to(self.device)))).cpu()
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
        return {"network": self.network.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict``."""
        restore_part(self.network, state, "network")

    def export(self, folder: Path, facts: RunFacts) -> Path:
        """Write weights and card."""
        card = ModelCard(
            name="redcnn",
            version="",
            method="redcnn",
            summary="RED-CNN, a residual encoder-decoder network, for comparison.",
            sampler=NO_SAMPLER,
            steps=0,
            for_comparison=True,
        )
        return export_model(card, self.network, self.network.config.to_dict(), folder, facts)


def redcnn_task(recipe: Recipe, device: torch.device) -> RedCnnTask:
    """Build the task of a recipe.

    Raises:
        RecipeError: Model or objective has an unknown key, or crops are too small for the network.
    """
    try:
        config = RedCnnConfig(**recipe.model)
    except TypeError as error:
        raise RecipeError(f"The recipe's model has an unknown key: {error}.") from error
    task = RedCnnTask(config, recipe.objective, device)
    smallest = max(config.reach, 2 * task.objective.margin) + 1
    if recipe.data.crop < smallest:
        raise RecipeError(f"The recipe's data.crop must be at least {smallest} for this network.")
    return task
