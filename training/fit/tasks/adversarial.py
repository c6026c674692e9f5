"""Task of a network of one pass and the critics that it is trained against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from training.errors import TrainingError
from training.fit.optimiser import ClippedAdam
from training.fit.schedule import learning_rate
from training.fit.task import Moment
from training.fit.tasks.initial import restore_part
from training.fit.tasks.single_pass import SinglePassTask
from training.settings import Recipe

CRITICS = "critics"
CRITIC_OPTIMISER = "critic_optimiser"
"""Parts of a checkpoint, so that a resumed fit goes on against the same critics."""


class AdversarialTask(SinglePassTask):
    """Trains the critics in ``loss``, before that of the network is computed.

    The loop knows the network alone: it is averaged, validated and exported. ``--init`` starts from
    the network of another run, with new critics.

    Args:
        recipe: Recipe with the method, its network and its optimisation.
        device: Device to train on.
        critics: Networks that tell results from full dose.
        rate: Learning rate of the critics, as a multiple of the network's.

    Raises:
        RecipeError: The model has an unknown key.
    """

    def __init__(
        self, recipe: Recipe, device: torch.device, critics: nn.Module, rate: float
    ) -> None:
        super().__init__(recipe, device)
        self.critics = critics.to(device)
        self._fit, self._rate = recipe.fit, rate
        self._optimiser = ClippedAdam(
            self.critics.parameters(), recipe.fit, deferred=device.type != "cpu"
        )

    def step_critics(self, loss: Tensor, moment: Moment) -> None:
        """Make one step of the critics; ranks share its gradients."""
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        moment.ranks.average(self._optimiser.parameters, torch.zeros(0, device=self.device))
        self._optimiser.step(self._rate * learning_rate(self._fit, moment.step, moment.progress))

    def state_dict(self) -> dict[str, Any]:
        """Return the network, the critics and the state of their optimiser."""
        return {
            **super().state_dict(),
            CRITICS: self.critics.state_dict(),
            CRITIC_OPTIMISER: self._optimiser.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict``.

        Raises:
            TrainingError: A part is missing or has another shape.
        """
        super().load_state_dict(state)
        restore_part(self.critics, state, CRITICS)
        if CRITIC_OPTIMISER not in state:
            raise TrainingError("That run has no state of the critics' optimiser.")
        self._optimiser.load_state_dict(state[CRITIC_OPTIMISER])
