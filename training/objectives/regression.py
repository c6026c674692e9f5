"""Loss of networks that map low dose directly to full dose (RED-CNN, eq. 8; Q-AE)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from man_core.hu import HuRange
from man_core.nets.single_pass import SinglePassNetwork


class RegressionObjective(BaseModel):
    """Margin and weighting of crops.

    Attributes:
        margin: Pixels at each edge of a crop that do not count. There the layers see zeros or have
            incomplete sums, which do not occur in a whole, padded slice.
        balanced: Whether to divide the error of each crop by the energy of its noise, so that all
            doses and kernels count equally. The paper trains one dose and one kernel and does not
            need this; with many, the noisiest crops would dominate.
    """

    model_config = ConfigDict(extra="forbid")

    margin: int = Field(default=8, ge=0)
    balanced: bool = False


MIN_NOISE_HU = 5.0
"""Limits the weight of crops without noise."""


def regression_loss(
    network: SinglePassNetwork, full: Tensor, low: Tensor, objective: RegressionObjective
) -> dict[str, Tensor]:
    """Compute the mean squared error per pixel of the standardised image.

    Args:
        network: Network in training.
        full: Target [batch, 1, row, column], HU.
        low: Input of the same shape, HU.
        objective: Margin and weighting.

    Returns:
        ``loss`` in squared standard units of the network, or in units of the noise if balanced,
        and ``rmse_hu``.
    """
    span, unit = HuRange(), network.config.scale
    x, target = span.to_network(low), span.to_network(full)
    error = _energy(network(x) - target, objective.margin)
    loss = error / unit**2
    if objective.balanced:
        least = (MIN_NOISE_HU / span.half_width) ** 2
        loss = error / (_energy(x - target, objective.margin) + least)
    return {"loss": loss.mean(), "rmse_hu": error.detach().mean().sqrt() * span.half_width}


def _energy(x: Tensor, margin: int) -> Tensor:
    """Average the square of each crop without its margin: [batch, 1, row, column] to [batch]."""
    rows, columns = (slice(margin, n - margin) for n in x.shape[-2:])
    return x[..., rows, columns].square().mean(dim=(1, 2, 3))
