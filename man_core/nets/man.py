"""The two stages of MAN as one module with the scaling of the latents between them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from man_core.diffusion.parametrization import Parametrization
from man_core.diffusion.residual_shift import ShiftConfig
from man_core.nets.autoencoder import Autoencoder, AutoencoderConfig
from man_core.nets.blocks import zeroed
from man_core.nets.choice import require_choice
from man_core.nets.unet import ConditionalUnet, Context, UnetConfig

DiffusionKind = Literal["cosine", "residual-shift"]
"""``cosine``: from the clean latent to noise, as the paper. ``residual-shift``: to the low-dose
latent."""

StartKind = Literal["noise", "ldct", "matched"]
"""Where sampling on the cosine schedule starts (reading A12). ``noise``: pure noise, as the paper.
``ldct``: the low-dose latent with the noise of the first step. ``matched``: the same, from the step
whose noise is as strong as the low dose's own."""


@dataclass(frozen=True)
class ManConfig:
    """Everything that builds a MAN network; embedded in the weights file.

    Attributes:
        autoencoder: Stage one.
        unet: Stage two.
        prediction: What the U-Net predicts.
        diffusion: What the U-Net was fitted to undo.
        diffusion_steps: T of the cosine schedule.
        shift: Schedule of a residual shift.
        start: Where sampling on the cosine schedule starts.
        first_step: Step from which it starts, at most.
        latent_clamp: Predicted z_0 is clamped to this many standard deviations.
        detail_share: Share of x - D(E(x)) added back to the result; where a gate is fitted, the
            share that it starts from.
        detail_gate: Whether that share is a map that the decoder's features give.
    """

    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    unet: UnetConfig = field(default_factory=UnetConfig)
    prediction: Parametrization = "residual"
    diffusion: DiffusionKind = "cosine"
    diffusion_steps: int = 1000
    shift: ShiftConfig = field(default_factory=ShiftConfig)
    start: StartKind = "noise"
    first_step: int = 990
    latent_clamp: float = 12.0
    detail_share: float = 0.0
    detail_gate: bool = False

    def __post_init__(self) -> None:
        """Refuse words that nothing knows, and predictions that a residual shift cannot make.

        Raises:
            ValueError: There is such a word or such a prediction.
        """
        require_choice("prediction", self.prediction, get_args(Parametrization))
        require_choice("diffusion", self.diffusion, get_args(DiffusionKind))
        require_choice("start", self.start, get_args(StartKind))
        if self.diffusion == "residual-shift":
            require_choice("prediction of a residual-shift", self.prediction, ("x0", "residual"))

    @property
    def alignment(self) -> int:
        """Rows and columns of a slice must be padded to multiples of this."""
        return self.autoencoder.factor * self.unet.alignment

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ManConfig:
        """Rebuild from plain values; lists become tuples.

        Raises:
            TypeError: A key is unknown.
            ValueError: A value is.
        """
        parts = {
            "autoencoder": AutoencoderConfig(**_tuples(values["autoencoder"])),
            "unet": UnetConfig(**_tuples(values["unet"])),
            "shift": ShiftConfig(**values.get("shift", {})),
        }
        return cls(**{**values, **parts})


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }


class DetailGate(nn.Module):
    """How much of the detail that the latent lost is anatomy, pixel by pixel.

    It compares the decoder's features of the restored and of the low-dose latent. It starts as the
    constant ``detail_share``.
    """

    def __init__(self, config: ManConfig) -> None:
        super().__init__()
        width, self.stem = config.autoencoder.channels[0], config.autoencoder.stem
        self.conv = zeroed(nn.Conv2d(2 * width, self.stem**2, 3, padding=1))
        nn.init.constant_(self.conv.bias, config.detail_share)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """Features [2 * batch, channel, row, column], restored first; [batch, 1, row, column]."""
        both = torch.cat(features.chunk(2), dim=1)
        return F.pixel_shuffle(self.conv(both), self.stem)


class ManNetwork(nn.Module):
    """Autoencoder and U-Net; between them latents are standardised per channel (reading A15)."""

    latent_mean: Tensor
    latent_std: Tensor
    residual_scale: Tensor

    def __init__(self, config: ManConfig) -> None:
        super().__init__()
        self.config = config
        self.autoencoder = Autoencoder(config.autoencoder)
        self.unet = ConditionalUnet(config.unet)
        shape = (1, config.autoencoder.latent, 1, 1)
        self.register_buffer("latent_mean", torch.zeros(shape))
        self.register_buffer("latent_std", torch.ones(shape))
        self.register_buffer("residual_scale", torch.ones(shape))
        self.gate = DetailGate(config) if config.detail_gate else None

    def encode(self, x: Tensor) -> Tensor:
        """Slice [batch, 1, row, column] in [-1, 1] to its standardised latent, the mean."""
        mean = self.autoencoder.encode(x).mean
        return (mean - self.latent_mean) / self.latent_std

    def predict(
        self,
        z: Tensor,
        step: Tensor,
        condition: Tensor,
        position: Tensor,
        context: Context | None = None,
    ) -> Tensor:
        """What the parametrization asks for, from the U-Net; see ``ConditionalUnet.forward``.

        A residual is scaled to the size that low-dose noise has in each latent channel: next to the
        anatomy it is a hundred times smaller in the first channels than in the last.
        """
        output: Tensor = self.unet(z, step, condition, position, context)
        return output * self.residual_scale if self.config.prediction == "residual" else output

    def decode(self, z: Tensor) -> Tensor:
        """Standardised latent to slice [batch, 1, row, column] in [-1, 1]."""
        return self.autoencoder.decode(self._raw(z))

    def reconstruct(self, clean: Tensor, low: Tensor, x: Tensor) -> Tensor:
        """D(z_0) and a share of what the latent does not hold of the input, x - D(E(x)).

        Args:
            clean: Restored latent z_0 [batch, latent, row, column], standardised.
            low: Latent of the input, E(x), same shape.
            x: The input [batch, 1, row, column] in [-1, 1].

        Returns:
            [batch, 1, row, column].
        """
        if not self.config.detail_share:
            return self.decode(clean)
        images, features = self.autoencoder.decode_with_features(self._raw(torch.cat((clean, low))))
        restored, coded = images.chunk(2)
        share = self.gate(features) if self.gate is not None else self.config.detail_share
        return restored + share * (x - coded)

    def _raw(self, z: Tensor) -> Tensor:
        return z * self.latent_std + self.latent_mean


def parameter_count(module: nn.Module) -> int:
    """Number of fitted values of a module."""
    return sum(parameter.numel() for parameter in module.parameters())
