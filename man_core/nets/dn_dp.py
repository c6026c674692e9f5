"""Dn-Dp: a diffusion prior on full dose in two stages, of low and of full resolution."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from man_core.diffusion.schedule import timestep_subset
from man_core.nets.ddpm_unet import DdpmUnetConfig
from man_core.nets.pixel_diffusion import PixelDiffusion, PixelDiffusionConfig
from man_core.nets.standard import Standard

SAMPLED_STEPS = (*range(1, 482, 20), 501, 1001, 1501, 2000)
"""The 29 of 2000 steps that are sampled: most of them where the noise is that of CT."""

MAX_RUNS = 100
"""Maximum number of averaged runs of a configuration that comes from a file."""


@dataclass(frozen=True)
class PriorWeights:
    """Trust in the prior; published for an unknown window of HU, here in standardised values.

    Attributes:
        low: Weight of the stage of low resolution.
        high: Weight of the stage of full resolution.
        slope: How the weight of the last steps rises with the deviation of the noise found, n.
        offset: Its value without noise.
        local: How it rises with the amount of n in each pixel: it is
            ``max(slope * std(n) + offset, 0) * local * abs(n) / high``.
    """

    low: float = 0.002
    high: float = 0.0075
    slope: float = 1.5
    offset: float = -0.01
    local: float = 0.3

    def __post_init__(self) -> None:
        """Reject weights that mean nothing.

        Raises:
            ValueError: A weight is negative, or that of full resolution is 0.
        """
        if min(self.low, self.slope, self.local) < 0 or self.high <= 0:
            raise ValueError("low, slope and local must not be negative, and high be above 0")

    def adaptive(self, found: Tensor) -> Tensor:
        """Return the weight of each pixel for the noise that was found, of the same shape."""
        std = found.std(dim=(-2, -1), keepdim=True)
        whole = (self.slope * std + self.offset).clamp(min=0.0)
        return whole / self.high * self.local * found.abs()


def _stage(unet: DdpmUnetConfig) -> PixelDiffusionConfig:
    """Return the diffusion of a stage, on values of deviation 1."""
    return PixelDiffusionConfig(
        unet, diffusion_steps=2000, first_beta=1e-6, last_beta=1e-2, standard=Standard()
    )


def _sr3(
    channels_in: int, multipliers: tuple[int, ...], blocks: int, *attention: int
) -> PixelDiffusionConfig:
    """Return a stage with the U-Net of SR3 (Saharia et al. 2021)."""
    unet = DdpmUnetConfig(
        channels_in=channels_in,
        channels=64,
        multipliers=multipliers,
        blocks=blocks,
        attention=attention,
        time_multiplier=1,
        attention_bias=False,
        dropout=0.2,
    )
    return _stage(unet)


@dataclass(frozen=True)
class DnDpConfig:
    """Architecture and sampling; embedded in the weights file. The defaults are for the abdomen.

    Attributes:
        low: Unconditional diffusion of slices of low resolution.
        high: Diffusion of whole slices, conditioned on the enlarged result of ``low``.
        factor: Pixels of a slice in a row of one pixel of low resolution.
        weights: Trust in the prior.
        runs: Runs with noise of their own whose results are averaged.
    """

    low: PixelDiffusionConfig = field(default_factory=lambda: _sr3(1, (1, 2, 4, 8, 8), 2, 3))
    high: PixelDiffusionConfig = field(default_factory=lambda: _sr3(2, (1, 2, 4, 8, 16, 32, 32), 2))
    factor: int = 4
    weights: PriorWeights = field(default_factory=PriorWeights)
    runs: int = 10

    def __post_init__(self) -> None:
        """Reject stages that do not fit together.

        Raises:
            ValueError: Channels, factor or runs are wrong, or a stage lacks sampled steps.
        """
        if (self.low.unet.channels_in, self.high.unet.channels_in) != (1, 2):
            raise ValueError("the low stage must take one image and the high stage two")
        if not 2 <= self.factor <= 16 or not 1 <= self.runs <= MAX_RUNS:
            raise ValueError(f"factor must be 2 to 16 and runs 1 to {MAX_RUNS}")
        if min(self.low.diffusion_steps, self.high.diffusion_steps) < SAMPLED_STEPS[-1]:
            raise ValueError(f"both stages must have at least {SAMPLED_STEPS[-1]} diffusion_steps")
        if self.low.standard != self.high.standard:
            raise ValueError("both stages must have the same standard")

    @property
    def alignment(self) -> int:
        """Number that divides rows and columns of a slice."""
        return math.lcm(self.factor * self.low.alignment, self.high.alignment)

    def subset(self, count: int) -> list[int]:
        """Choose evenly among the sampled steps, descending from the last one.

        Raises:
            ValueError: More steps are requested than there are.
        """
        places = timestep_subset(len(SAMPLED_STEPS), count)
        return [SAMPLED_STEPS[place - 1] for place in places]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DnDpConfig:
        """Rebuild from plain values; lists become tuples.

        Raises:
            TypeError: A key is unknown.
            ValueError: A value is out of range.
            KeyError: A key is missing.
        """
        parts: dict[str, Any] = {
            name: PixelDiffusionConfig.from_dict(values[name]) for name in ("low", "high")
        }
        return cls(**{**values, **parts, "weights": PriorWeights(**values["weights"])})


class DnDp(nn.Module):
    """Both stages, and how a slice gets from one to the other."""

    def __init__(self, config: DnDpConfig) -> None:
        super().__init__()
        self.config = config
        self.low = PixelDiffusion(config.low)
        self.high = PixelDiffusion(config.high)

    def reduced(self, x: Tensor) -> Tensor:
        """Average [batch, 1, row, column] to low resolution."""
        return F.avg_pool2d(x, self.config.factor)

    def enlarged(self, small: Tensor) -> Tensor:
        """Interpolate low resolution to a whole slice."""
        factor = float(self.config.factor)
        return F.interpolate(small, scale_factor=factor, mode="bicubic", align_corners=False)


DN_DP = DnDpConfig()
"""Published for the abdomen: 97,803,457 parameters at 128 x 128 and 1.5 thousand million at 512."""

DN_DP_CHEST = DnDpConfig(
    low=_sr3(1, (1, 2, 4, 8, 8), 4, 4),
    high=_sr3(2, (1, 2, 4, 8, 8, 16, 16), 5),
    factor=2,
    weights=PriorWeights(low=0.03, high=0.09, slope=3.5, offset=-0.09, local=1.2),
)
"""Published for the chest: 159,799,361 parameters at 256 x 256 and 0.8 thousand million at 512."""

DN_DP_REDUCED = DnDpConfig(
    low=_stage(
        replace(DN_DP.low.unet, channels=16, multipliers=(1, 2, 2, 4), blocks=1, dropout=0.0)
    ),
    high=_stage(
        replace(DN_DP.high.unet, channels=16, multipliers=(1, 2, 2, 4, 4), blocks=1, dropout=0.0)
    ),
    factor=2,
    runs=1,
)
"""A quarter of the published width, fewer levels and one run: for two CPU cores."""

DN_DP_PRESETS = {"dn-dp": DN_DP, "dn-dp-chest": DN_DP_CHEST, "dn-dp-reduced": DN_DP_REDUCED}
"""Configurations by preset name."""
