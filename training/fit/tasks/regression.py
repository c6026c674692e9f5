"""RED-CNN and Q-AE, fitted by their squared error, as tasks of the training loop."""

from __future__ import annotations

import torch
from torch import Tensor

from training.data.batch import Batch
from training.fit.task import Moment
from training.fit.tasks.single_pass import SinglePassTask, check_crop
from training.objectives.regression import RegressionObjective, regression_loss
from training.settings import Recipe, read_objective


class RegressionTask(SinglePassTask):
    """Trains the network to predict the full-dose crop from its low-dose partner.

    Args:
        recipe: Recipe with the method, its network and its objective.
        device: Device to train on.

    Raises:
        RecipeError: Model or objective has an unknown key, or crops are too small for the network.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        super().__init__(recipe, device)
        self.objective = read_objective(RegressionObjective, recipe.objective)
        check_crop(recipe, max(self.network.config.reach, 2 * self.objective.margin) + 1)

    def loss(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Compute the squared error against full dose."""
        return regression_loss(self.network, batch.full, batch.low, self.objective)
