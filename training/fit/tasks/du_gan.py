"""DU-GAN as a task of the training loop."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from man_core.hu import HuRange
from man_core.nets.du_gan import UnetDiscriminator
from training.data.batch import Batch
from training.errors import RecipeError
from training.fit.task import Moment
from training.fit.tasks.adversarial import AdversarialTask
from training.objectives.du_gan import (
    REAL,
    DuGanObjective,
    cutmix_mask,
    discriminator_loss,
    gradient_magnitude,
    score_loss,
)
from training.settings import Recipe, read_objective

DOMAINS = ("image", "gradient")
"""Domains of the two discriminators."""


class DuGanTask(AdversarialTask):
    """Trains the generator against two U-Nets, of images and of their gradients.

    Args:
        recipe: Recipe with the method, its network and its objective.
        device: Device to train on.

    Raises:
        RecipeError: Model or objective has an unknown key, or crops do not fit the discriminators.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.objective = read_objective(DuGanObjective, recipe.objective)
        chosen = self.objective
        if recipe.data.crop % 2**chosen.critic_levels:
            raise RecipeError(
                f"The recipe's data.crop must be a multiple of {2**chosen.critic_levels} for its"
                " discriminators."
            )
        critics = nn.ModuleDict(
            {
                domain: UnetDiscriminator(chosen.critic_channels, chosen.critic_levels)
                for domain in DOMAINS
            }
        )
        super().__init__(recipe, device, critics, chosen.critic_rate)

    def loss(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Train the discriminators; then compute the generator's loss."""
        span, network, chosen = HuRange(), self.network, self.objective
        x = span.to_network(batch.low)
        result = network.standardised(network(x).float())
        with torch.autocast(self.device.type, enabled=False):
            low, full = (
                network.standardised(span.to_network(hu)) for hu in (batch.low, batch.full)
            )
            crops = {
                "image": (full, result, low),
                "gradient": tuple(map(gradient_magnitude, (full, result, low))),
            }
            terms = self._train_discriminators(crops, moment)
            scores = {
                name: score_loss(self._critic(name)(crops[name][1]), REAL) for name in DOMAINS
            }
            mse = F.mse_loss(result, full)
            gradient = F.l1_loss(crops["gradient"][1], crops["gradient"][0])
        loss = (
            chosen.adversarial_image * scores["image"]
            + chosen.adversarial_gradient * scores["gradient"]
            + chosen.mse * mse
            + chosen.gradient * gradient
        )
        adversarial = {f"adversarial_{name}": score for name, score in scores.items()}
        return {"loss": loss, "mse": mse, "gradient": gradient, **adversarial, **terms}

    def _critic(self, domain: str) -> nn.Module:
        critics = self.critics
        assert isinstance(critics, nn.ModuleDict)
        return critics[domain]

    def _train_discriminators(
        self, crops: dict[str, tuple[Tensor, ...]], moment: Moment
    ) -> dict[str, Tensor]:
        """Make the steps of both discriminators at once; return the terms of the last one."""
        self.critics.requires_grad_(True)
        chosen = self.objective
        probability = chosen.cutmix_probability_at(moment.step)
        for _ in range(chosen.critic_steps):
            mask = cutmix_mask(crops["image"][0], probability, moment.generator)
            terms: dict[str, Tensor] = {}
            for name, (full, result, low) in crops.items():
                found = discriminator_loss(
                    self._critic(name), full, result.detach(), low, mask, chosen.cutmix
                )
                terms |= {f"{term}_{name}": value for term, value in found.items()}
            self.step_critics(terms["critic_image"] + terms["critic_gradient"], moment)
        self.critics.requires_grad_(False)
        return {name: value.detach() for name, value in terms.items()}
