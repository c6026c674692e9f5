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
    """

    model_config = ConfigDict(extra="forbid")

    margin: int = Field(default=8, ge=0)


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
        ``loss`` in squared standard units of the network, and ``rmse_hu``.
    """
    span, unit = HuRange(), network.config.scale
    error = network(span.to_network(low)) - span.to_network(full)
    rows, columns = (slice(objective.margin, n - objective.margin) for n in error.shape[-2:])
    inner = error[..., rows, columns]
    mean_square = inner.square().mean()
    return {
        "loss": mean_square / unit**2,
        "rmse_hu": mean_square.detach().sqrt() * (span.high - span.low) / 2,
    }
