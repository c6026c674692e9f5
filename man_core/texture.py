"""Texture of a result: how much fine noise of its source it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_SIGMA_PIXELS: Final = 4.0
"""Largest Gaussian that separates fine from coarse noise; beyond it all noise is fine."""


@dataclass(frozen=True)
class Texture:
    """Share of the fine noise of its source that a result keeps.

    Attributes:
        share: Share of what the network takes away, at the default dose gain; 0 to 1.
        sigma_pixels: Standard deviation of the Gaussian that separates fine from coarse; above 0.

    Raises:
        ValueError: A value is out of range.
    """

    share: float
    sigma_pixels: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"the share of the texture must be within 0 to 1, not {self.share}")
        if not 0.0 < self.sigma_pixels <= MAX_SIGMA_PIXELS:
            raise ValueError(
                f"the sigma of the texture must be above 0 and at most {MAX_SIGMA_PIXELS:g} pixels,"
                f" not {self.sigma_pixels}"
            )

    def share_at(self, relative_gain: float) -> float:
        """Return the share at a dose gain over the default; it falls as noise does with dose.

        Example:
            >>> Texture(0.4, 1.0).share_at(4.0)
            0.2
        """
        return float(min(1.0, self.share * relative_gain**-0.5))
