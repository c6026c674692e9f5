"""WGAN-VGG as a task of the training loop."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from man_core.hu import HuRange
from man_core.nets.wgan_vgg import Critic
from training.data.batch import Batch
from training.errors import RecipeError
from training.fit.task import Moment
from training.fit.tasks.adversarial import AdversarialTask
from training.objectives.deep_features import deep_features
from training.objectives.wgan_vgg import WganVggObjective, critic_loss, perceptual_loss
from training.settings import Recipe, read_objective


class WganVggTask(AdversarialTask):
    """Trains the generator against a critic of crops, and towards the features of full dose.

    Args:
        recipe: Recipe with the method, its network and its objective.
        device: Device to train on.

    Raises:
        RecipeError: Model or objective has an unknown key, or crops are too small for the critic.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.objective = read_objective(WganVggObjective, recipe.objective)
        chosen = self.objective
        try:
            critic = Critic(recipe.data.crop, chosen.critic_channels, chosen.critic_hidden)
        except ValueError as error:
            raise RecipeError(f"The recipe's data.crop is wrong: {error}.") from error
        super().__init__(recipe, device, critic, chosen.critic_rate)
        weights = chosen.perceptual_weights
        self.features = deep_features(Path(weights) if weights else None).to(device)

    def loss(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Train the critic; then compute the generator's loss (eq. 9 of the paper)."""
        span, network = HuRange(), self.network
        result = network(span.to_network(batch.low)).float()
        with torch.autocast(self.device.type, enabled=False):
            full = network.standardised(span.to_network(batch.full))
            standard = network.standardised(result)
            terms = self._train_critic(full, standard.detach(), moment)
            adversarial = -self.critics(standard).mean()
            perceptual = perceptual_loss(
                self.features, batch.full, span.to_hu(result), moment.generator
            )
        loss = adversarial + self.objective.perceptual * perceptual
        return {"loss": loss, "adversarial": adversarial, "perceptual": perceptual, **terms}

    def _train_critic(self, full: Tensor, result: Tensor, moment: Moment) -> dict[str, Tensor]:
        """Make the critic's steps; return the terms of the last one."""
        self.critics.requires_grad_(True)
        for _ in range(self.objective.critic_steps):
            terms = critic_loss(
                self.critics, full, result, self.objective.penalty, moment.generator
            )
            self.step_critics(terms["critic"], moment)
        self.critics.requires_grad_(False)
        return {name: value.detach() for name, value in terms.items()}
