"""Diffusion of whole slices in pixel space: a U-Net with its schedule (Ho et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, get_args

import torch
from torch import Tensor, nn

from man_core.diffusion.parametrization import Parametrization, clean_from
from man_core.diffusion.schedule import linear_schedule, timestep_subset
from man_core.hu import HuRange
from man_core.nets.choice import require_choice
from man_core.nets.ddpm_unet import DdpmUnet, DdpmUnetConfig
from man_core.nets.standard import Standard

UNIT = Standard(scale=100.0 / HuRange().half_width)
"""The diffusion sees 100 HU as 1. Published models see an 8-bit window as [-1, 1]; of the whole
range of CT, noise of 10 HU would be less than the noise of the first diffusion step."""

MAX_DIFFUSION_STEPS = 10_000
"""Maximum T of a configuration that comes from a file."""


@dataclass(frozen=True)
class PixelDiffusionConfig:
    """A diffusion in pixel space; embedded in the weights file.

    Attributes:
        unet: Network; a second input channel is the condition.
        diffusion_steps: T.
        first_beta: Beta of step 1; beta rises evenly.
        last_beta: Beta of step T.
        trained_steps: Rising steps, 1 to T, that are trained and sampled; empty: all.
        prediction: Target of the network.
        standard: Standardisation of its images.
    """

    unet: DdpmUnetConfig = field(default_factory=DdpmUnetConfig)
    diffusion_steps: int = 1000
    first_beta: float = 1e-4
    last_beta: float = 0.02
    trained_steps: tuple[int, ...] = ()
    prediction: Parametrization = "eps"
    standard: Standard = UNIT

    def __post_init__(self) -> None:
        """Reject values that give no diffusion.

        Raises:
            ValueError: A step or beta is out of range, or a keyword is unknown.
        """
        require_choice("prediction", self.prediction, get_args(Parametrization))
        if not 1 <= self.diffusion_steps <= MAX_DIFFUSION_STEPS:
            raise ValueError(f"diffusion_steps must be 1 to {MAX_DIFFUSION_STEPS}")
        if not 0 < self.first_beta <= self.last_beta < 1:
            raise ValueError("first_beta and last_beta must rise between 0 and 1")
        bounds = (0, *self.trained_steps, self.diffusion_steps + 1)
        if list(bounds) != sorted(set(bounds)):
            raise ValueError(f"trained_steps must rise from 1 to at most {self.diffusion_steps}")

    @property
    def steps(self) -> Sequence[int]:
        """Rising steps that are trained and sampled."""
        return self.trained_steps or range(1, self.diffusion_steps + 1)

    @property
    def alignment(self) -> int:
        """Number that divides rows and columns of a slice: the deepest maps are 2 x 2 at least.

        A group norm of a single value is undefined.
        """
        return 2 * self.unet.alignment

    def subset(self, count: int) -> list[int]:
        """Choose evenly among the trained steps, descending from the last one.

        Raises:
            ValueError: More steps are requested than were trained.
        """
        return [self.steps[place - 1] for place in timestep_subset(len(self.steps), count)]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PixelDiffusionConfig:
        """Rebuild from plain values; lists become tuples.

        Raises:
            TypeError: A key is unknown.
            ValueError: A value is out of range.
            KeyError: A key is missing.
        """
        parts = {
            "unet": DdpmUnetConfig.from_dict(values["unet"]),
            "standard": Standard(**values["standard"]),
            "trained_steps": tuple(values["trained_steps"]),
        }
        return cls(**{**values, **parts})


class PixelDiffusion(nn.Module):
    """Predicts clean slices from noisy ones, with a condition or without."""

    def __init__(self, config: PixelDiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = DdpmUnet(config.unet)
        self.schedule = linear_schedule(config.diffusion_steps, config.first_beta, config.last_beta)

    def predict(self, z: Tensor, steps: Tensor, condition: Tensor | None) -> Tensor:
        """Return the output of the network, float32.

        Args:
            z: Noisy slices z_t [batch, 1, row, column], standardised.
            steps: t, 1 to T, [batch]; the network is given t - 1, as in the published ones.
            condition: Low-dose slices of the same shape; None: none.
        """
        x = z if condition is None else torch.cat((condition, z), dim=1)
        return self.unet(x, steps - 1).float()  # type: ignore[no-any-return]

    def predict_clean(self, z: Tensor, step: int, condition: Tensor | None) -> Tensor:
        """Predict z_0 from z_t, clamped to the range of the network (Ho et al. 2020, section 3.2).

        Args:
            z: z_t [batch, 1, row, column], standardised.
            step: t, the same for all.
            condition: See ``predict``.
        """
        output = self.predict(z, torch.full((len(z),), step, device=z.device), condition)
        level = self.schedule.alpha_bar[step].float()
        shown = z if condition is None else condition
        clean = clean_from(self.config.prediction, output, z, level, shown)
        return clean.clamp(*self.config.standard.limits)


NON_UNIFORM_STEPS = (1, 200, 400, 600, 700, 800, 850, 900, 950, 1000)
"""The ten steps of Fast-DDPM, non-uniform: more of them where the noise is strong."""

REDUCED_UNET = DdpmUnetConfig(channels=16, blocks=1)
"""An eighth of the published width and one of two blocks per level: for two CPU cores."""

DDPM = PixelDiffusionConfig()
"""Conditional DDPM as published: 1000 steps, 113,669,761 parameters."""

FAST_DDPM = PixelDiffusionConfig(trained_steps=NON_UNIFORM_STEPS)
"""Fast-DDPM as published (Jiang et al. 2025): the same network, trained on ten steps."""

DDPM_REDUCED = PixelDiffusionConfig(unet=REDUCED_UNET, prediction="residual")
"""Predicts the residual: an error in predicted noise is 158 times as large in the clean image at
step 1000, and a short fit does not get below it."""

FAST_DDPM_REDUCED = replace(DDPM_REDUCED, trained_steps=NON_UNIFORM_STEPS)

PIXEL_PRESETS = {
    "ddpm": DDPM,
    "ddpm-reduced": DDPM_REDUCED,
    "fast-ddpm": FAST_DDPM,
    "fast-ddpm-reduced": FAST_DDPM_REDUCED,
}
"""Configurations by preset name."""
