"""Keep a share of the fine noise of the source.

What a network leaves of noise is coarse, since fine noise is the easiest to take: the result looks
smeared, and low contrast loses its edges together with the noise. A share of the fine part of what
was taken brings back both. It adds nothing that the source does not show, and leaves means over
some pixels as they are.
"""

from __future__ import annotations

from torch import Tensor

from man_core import filters
from man_core.texture import Texture


def keep_fine_noise(
    source: Tensor, result: Tensor, texture: Texture | None, relative_gain: float = 1.0
) -> Tensor:
    """Return the result with a share of the fine noise of its source.

    Args:
        source: Input of the network [slice, row, column], HU.
        result: Output of the network, of the same shape.
        texture: What to keep; None: nothing.
        relative_gain: Dose gain over the default of the model.
    """
    if texture is None:
        return result
    taken = source - result
    fine = taken - filters.gaussian(taken, texture.sigma_pixels)
    return result + texture.share_at(relative_gain) * fine
