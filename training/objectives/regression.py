"""Loss of networks that map low dose straight to full dose (RED-CNN, eq. 8)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from man_core.hu import HuRange
from man_core.nets.redcnn import RedCnn


class RegressionObjective(BaseModel):
    """What counts of a crop.

    Attributes:
        margin: Pixels at each edge of a crop that do not count. The transposed convolutions add up
            only a part there, which a whole slice, padded, never shows.
        balanced: Divide each crop's error by the energy of its noise, so that every dose and
            kernel counts alike. The paper fits one dose and one kernel and needs none of this;
            over many, the noisiest crops would drown the others.
    """

    model_config = ConfigDict(extra="forbid")

    margin: int = Field(default=8, ge=0)
    balanced: bool = False


MIN_NOISE_HU = 5.0
"""Keeps the weight of crops without noise finite."""


def regression_loss(
    network: RedCnn, full: Tensor, low: Tensor, objective: RegressionObjective
) -> dict[str, Tensor]:
    """Mean squared error per pixel of the standardised image.

    Args:
        network: Being fitted.
        full: Target [batch, 1, row, column], HU.
        low: Input, likewise.
        objective: What counts.

    Returns:
        ``loss`` in squared standard units of the network, or in units of the noise where balanced,
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
    """Mean square of each crop without its margin: [batch, 1, row, column] to [batch]."""
    rows, columns = (slice(margin, n - margin) for n in x.shape[-2:])
    return x[..., rows, columns].square().mean(dim=(1, 2, 3))
