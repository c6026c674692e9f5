"""RED-CNN as a task of the training loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from man_core.card import NO_SAMPLER, ModelCard
from man_core.hu import HuRange
from man_core.nets.redcnn import RedCnn, RedCnnConfig
from training.data.batch import Batch
from training.errors import RecipeError
from training.fit.task import Moment, RunFacts
from training.fit.tasks.export import export_model
from training.fit.tasks.single_network import SingleNetworkTask
from training.objectives.regression import RegressionObjective, regression_loss
from training.settings import Recipe, read_objective


class RedCnnTask(SingleNetworkTask):
    """Trains the network to predict the full-dose crop from its low-dose partner."""

    def __init__(
        self, config: RedCnnConfig, objective: dict[str, Any], device: torch.device
    ) -> None:
        self.network = RedCnn(config)
        super().__init__("redcnn", self.network, device)
        self.objective = read_objective(RegressionObjective, objective)

    def loss(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Compute the squared error against full dose."""
        return regression_loss(self.network, batch.full, batch.low, self.objective)

    def restore(self, low: Tensor) -> Tensor:
        """Denoise crops like whole slices."""
        span = HuRange()
        return span.to_hu(self.network.restore(span.to_network(low)))

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
