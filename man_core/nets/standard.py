"""Standardisation of network values, beside whose noise that of CT would be tiny otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Standard:
    """Linear map from network values in [-1, 1] to values of mean 0 and deviation 1.

    Attributes:
        centre: Network value that becomes 0; the default is -542.5 HU of the default range, the
            mean of CT slices in ldct-benchmark.
        scale: Network value that becomes 1; the default is 502.2 HU, their standard deviation.
    """

    centre: float = -0.765
    scale: float = 0.2452

    def __post_init__(self) -> None:
        """Reject a scale that is not positive.

        Raises:
            ValueError: It is not.
        """
        if self.scale <= 0:
            raise ValueError(f"the scale must be above 0, not {self.scale}")

    @property
    def limits(self) -> tuple[float, float]:
        """The standardised values of -1 and 1."""
        return (-1 - self.centre) / self.scale, (1 - self.centre) / self.scale

    def apply(self, x: Tensor) -> Tensor:
        """Standardise network values."""
        return (x - self.centre) / self.scale

    def undo(self, standard: Tensor) -> Tensor:
        """Return the network values of standardised ones."""
        return standard * self.scale + self.centre
