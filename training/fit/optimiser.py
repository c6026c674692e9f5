"""Optimiser of a fit: clipped AdamW and the averaged weights, without steps that are not finite."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from training.fit.ema import Ema
from training.settings import FitSettings


class ClippedAdam:
    """AdamW that leaves weights and moments as they are if the gradient is not finite.

    Args:
        parameters: Trained parameters.
        settings: Optimisation of the recipe.
        deferred: Whether the fused kernel decides this on the device, so that the host does not
            wait for the gradient; else the host decides.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], settings: FitSettings, *, deferred: bool
    ) -> None:
        self.parameters = list(parameters)
        self._clip = settings.clip
        self._deferred = deferred
        self._adam = torch.optim.AdamW(
            self.parameters,
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=deferred or None,
        )

    def zero_grad(self) -> None:
        """Drop the gradients of the last step."""
        self._adam.zero_grad(set_to_none=True)

    def step(self, rate: float) -> Tensor:
        """Make one step with a learning rate; return the norm of the gradient before clipping."""
        for group in self._adam.param_groups:
            group["lr"] = rate
        norm: Tensor = torch.nn.utils.clip_grad_norm_(self.parameters, self._clip)
        finite = torch.isfinite(norm)
        if self._deferred:  # as torch.amp.GradScaler tells a fused optimiser to skip
            self._adam.found_inf = finite.logical_not().float()  # type: ignore[attr-defined]
        if self._deferred or bool(finite):
            self._adam.step()
            self._stepped()
        return norm

    def _stepped(self) -> None:
        """Follow the weights after a step."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state of AdamW."""
        return self._adam.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``, also one of another device."""
        groups = [group | {"fused": self._deferred or None} for group in state["param_groups"]]
        self._adam.load_state_dict(state | {"param_groups": groups})


class Optimiser(ClippedAdam):
    """Optimiser of a fit, with averages of the weights.

    Averages are updated in a step that was skipped too if ``deferred``: from weights that did not
    change.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], settings: FitSettings, *, deferred: bool
    ) -> None:
        super().__init__(parameters, settings, deferred=deferred)
        self.ema = Ema(self.parameters, settings.ema)

    def _stepped(self) -> None:
        self.ema.update(self.parameters)

    def are_finite(self) -> bool:
        """Return whether all weights and their averages are finite."""
        values = [*(p.detach() for p in self.parameters), *self.ema.averages]
        return bool(torch.stack([torch.isfinite(value).all() for value in values]).all())
