"""Task with a network of one pass, and the construction of such networks from recipes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from man_core.card import NO_SAMPLER, ModelCard
from man_core.hu import HuRange
from man_core.nets.du_gan import DuGan, DuGanConfig
from man_core.nets.qae import Qae, QaeConfig
from man_core.nets.redcnn import RedCnn, RedCnnConfig
from man_core.nets.single_pass import SinglePassNetwork
from man_core.nets.wgan_vgg import WganVgg, WganVggConfig
from training.errors import RecipeError
from training.fit.task import RunFacts
from training.fit.tasks.export import export_model
from training.fit.tasks.single_network import SingleNetworkTask
from training.settings import Recipe


@dataclass(frozen=True)
class SinglePassMethod:
    """A method whose network denoises in one pass.

    Attributes:
        title: Name of the method and of its network, for the card.
        build: Builds the network from the values of a recipe or of a weights file.
    """

    title: str
    build: Callable[[dict[str, Any]], SinglePassNetwork]


METHODS = {
    "du-gan": SinglePassMethod(
        "DU-GAN, a generator trained against two U-Nets",
        lambda values: DuGan(DuGanConfig(**values)),
    ),
    "qae": SinglePassMethod(
        "Q-AE, an autoencoder of quadratic neurons",
        lambda values: Qae(QaeConfig(**values)),
    ),
    "redcnn": SinglePassMethod(
        "RED-CNN, a residual encoder-decoder network",
        lambda values: RedCnn(RedCnnConfig(**values)),
    ),
    "wgan-vgg": SinglePassMethod(
        "WGAN-VGG, a generator trained against a critic and towards deep features",
        lambda values: WganVgg(WganVggConfig(**values)),
    ),
}
"""Methods by the name in recipes and cards."""


class SinglePassTask(SingleNetworkTask):
    """Base of the tasks of the methods of one pass; a method adds its loss.

    Args:
        recipe: Recipe with the method and the values of its network.
        device: Device to train on.

    Raises:
        RecipeError: The model has an unknown key.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.network = _network(recipe)
        super().__init__(recipe.method, self.network, device)

    def restore(self, low: Tensor) -> Tensor:
        """Denoise crops like whole slices."""
        span = HuRange()
        return span.to_hu(self.network.restore(span.to_network(low)))

    def export(self, folder: Path, facts: RunFacts) -> Path:
        """Write weights and card."""
        card = ModelCard(
            name=self.method,
            version="",
            method=self.method,
            summary=f"{METHODS[self.method].title}, for comparison.",
            sampler=NO_SAMPLER,
            steps=0,
            for_comparison=True,
        )
        return export_model(card, self.network, self.network.config.to_dict(), folder, facts)


def _network(recipe: Recipe) -> SinglePassNetwork:
    try:
        return METHODS[recipe.method].build(recipe.model)
    except TypeError as error:
        raise RecipeError(f"The recipe's model has an unknown key: {error}.") from error


def check_crop(recipe: Recipe, smallest: int) -> None:
    """Check that crops are large enough.

    Raises:
        RecipeError: They are not.
    """
    if recipe.data.crop < smallest:
        raise RecipeError(f"The recipe's data.crop must be at least {smallest} for this network.")
