"""Dose gain of a crop, and the image that it asks for."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_gain(
    full: Tensor, low: Tensor, dose: Tensor, share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw the dose gain g of each crop.

    At dose d the noise that was added to the full dose has the variance 1/d - 1, in units of that
    of the full dose. A dose of g d would have 1/(g d) - 1, so that the image that is asked for
    keeps the square root of their ratio of the added noise.

    Args:
        full: Full dose [batch, 1, row, column], HU.
        low: Low dose, same shape.
        dose: Dose of ``low`` as a fraction of full dose [batch].
        share: Share of crops with a gain below 1/d, evenly in its logarithm; the others get 1/d,
            which asks for the full dose.
        generator: Random numbers on the device of the crops.

    Returns:
        Gains [batch], at least 1, and the images [batch, 1, row, column] in HU.
    """
    most = 1.0 / dose
    part, exponent = torch.rand((2, len(most)), generator=generator, device=most.device)
    gain = torch.where(part < share, most**exponent, most)
    left = ((most / gain - 1.0) / (most - 1.0).clamp(min=1e-6)).clamp(0.0, 1.0).sqrt()
    return gain, full + left[:, None, None, None] * (low - full)
