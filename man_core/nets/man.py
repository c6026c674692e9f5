"""Both stages of MAN as one module, with the scaling of the latents between them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from man_core.context import check_context
from man_core.diffusion.names import DiffusionKind
from man_core.diffusion.parametrization import Parametrization
from man_core.diffusion.residual_shift import ShiftConfig
from man_core.nets.autoencoder import Autoencoder, AutoencoderConfig
from man_core.nets.choice import require_choice
from man_core.nets.detail import UNIT, DetailConfig, DetailPath
from man_core.nets.gain import GainEmbedding
from man_core.nets.unet import ConditionalUnet, Context, UnetConfig

StartKind = Literal["noise", "ldct", "matched"]
"""Start of sampling on the cosine schedule (decision 0002). ``noise``: pure noise, as in the paper.
``ldct``: the low-dose latent with the noise of the first step. ``matched``: the same, from the step
whose noise matches that of the low dose."""


@dataclass(frozen=True)
class ManConfig:
    """Architecture and diffusion of a MAN network; embedded in the weights file.

    Attributes:
        autoencoder: Stage one.
        unet: Stage two.
        prediction: Prediction target of the U-Net.
        diffusion: Diffusion that the U-Net was trained to invert.
        diffusion_steps: T of the cosine schedule.
        shift: Schedule of a residual shift.
        start: Start of sampling on the cosine schedule.
        first_step: Highest step from which sampling starts.
        latent_clamp: Maximum distance of the predicted z_0 beyond the low-dose latent, in standard
            deviations.
        detail_share: Share of x - D(E(x)) added to the result if there is no detail path.
        detail: Detail path.
        gain_channels: Channels of the embedding of the dose gain; 0: the network is not told it.
        context_slices: Slices below, and as many above, that the network sees beside each; 0 or 1.
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
    detail: DetailConfig = field(default_factory=DetailConfig)
    gain_channels: int = 0
    context_slices: int = 0

    def __post_init__(self) -> None:
        """Reject unknown keywords, and what the parts of a network cannot do.

        Raises:
            ValueError: There is an unknown keyword, a prediction that a residual shift cannot make,
                or an impossible number of neighbouring slices.
        """
        require_choice("prediction", self.prediction, get_args(Parametrization))
        require_choice("diffusion", self.diffusion, get_args(DiffusionKind))
        require_choice("start", self.start, get_args(StartKind))
        check_context(self.context_slices)
        if self.diffusion == "residual-shift":
            require_choice("prediction of a residual-shift", self.prediction, ("x0", "residual"))

    @property
    def alignment(self) -> int:
        """Number to whose multiples rows and columns of a slice must be padded."""
        return self.autoencoder.factor * self.unet.alignment

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ManConfig:
        """Rebuild from plain values; lists become tuples.

        Raises:
            TypeError: A key is unknown.
            ValueError: A value is unknown.
        """
        parts = {
            "autoencoder": AutoencoderConfig(**_tuples(values["autoencoder"])),
            "unet": UnetConfig(**_tuples(values["unet"])),
            "shift": ShiftConfig(**values.get("shift", {})),
            "detail": DetailConfig(**values.get("detail", {})),
        }
        return cls(**{**values, **parts})


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }


class ManNetwork(nn.Module):
    """Autoencoder and U-Net; between them latents are standardised per channel (decision 0002)."""

    latent_mean: Tensor
    latent_std: Tensor
    residual_scale: Tensor

    def __init__(self, config: ManConfig) -> None:
        super().__init__()
        self.config = config
        told = config.gain_channels
        self.autoencoder = Autoencoder(config.autoencoder, told)
        beside = 2 * config.context_slices
        self.unet = ConditionalUnet(config.unet, told, beside * config.autoencoder.factor**2)
        self.gain = GainEmbedding(told) if told else None
        shape = (1, config.autoencoder.latent, 1, 1)
        self.register_buffer("latent_mean", torch.zeros(shape))
        self.register_buffer("latent_std", torch.ones(shape))
        self.register_buffer("residual_scale", torch.ones(shape))
        self.detail = self._detail_path() if config.detail.channels else None

    def encode(self, x: Tensor) -> Tensor:
        """Encode a slice [batch, 1, row, column] in [-1, 1] to its standardised latent mean."""
        mean = self.autoencoder.encode(x).mean
        return (mean - self.latent_mean) / self.latent_std

    def predict(
        self,
        z: Tensor,
        step: Tensor,
        condition: Tensor,
        position: Tensor,
        context: Context | None = None,
        gain: Tensor | None = None,
        beside: Tensor | None = None,
    ) -> Tensor:
        """Evaluate the U-Net for the prediction target; see ``ConditionalUnet.forward``.

        The dose gain [batch] matters only to a network that is told it (``gain_channels``).
        A residual is scaled to the level of low-dose noise in each latent channel, which relative
        to the anatomy is a hundred times smaller in the first channels than in the last.
        """
        told = self._embedded(gain)
        output: Tensor = self.unet(z, step, condition, position, context, told, beside)
        return output * self.residual_scale if self.config.prediction == "residual" else output

    def beside(self, x: Tensor, neighbours: Tensor | None) -> Tensor | None:
        """Return what the U-Net sees of the neighbouring slices, at the resolution of the latents.

        Differences from the slice, since it knows the slice itself.

        Args:
            x: Slices [batch, 1, row, column] in [-1, 1].
            neighbours: Slices beside each [batch, 2 * context_slices, row, column]; None: none.

        Returns:
            [batch, channel, row, column]; None for a network that sees no neighbours.
        """
        if not self.config.context_slices or neighbours is None:
            return None
        return F.pixel_unshuffle((neighbours - x) / UNIT, self.config.autoencoder.factor)

    def decode(self, z: Tensor) -> Tensor:
        """Decode a standardised latent to a slice [batch, 1, row, column] in [-1, 1]."""
        return self.autoencoder.decode(self._raw(z))

    def reconstruct(
        self,
        clean: Tensor,
        low: Tensor,
        x: Tensor,
        gain: Tensor | None = None,
        neighbours: Tensor | None = None,
    ) -> Tensor:
        """Decode z_0 and add detail of the input: by the detail path, or a share of x - D(E(x)).

        Args:
            clean: Restored latent z_0 [batch, latent, row, column], standardised.
            low: Latent of the input, E(x), same shape.
            x: Input [batch, 1, row, column] in [-1, 1].
            gain: Dose gain [batch]; see ``predict``.
            neighbours: Slices beside each; see ``beside``. The detail path sees them.

        Returns:
            [batch, 1, row, column].
        """
        told = self._embedded(gain)
        restored, features = self.autoencoder.decode_with_features(self._raw(clean), told)
        if self.detail is not None:
            seen = neighbours if self.config.context_slices else None
            return self.detail(restored, features, x, told, seen)  # type: ignore[no-any-return]
        if not self.config.detail_share:
            return restored
        return restored + self.config.detail_share * (x - self.decode(low))

    def _detail_path(self) -> DetailPath:
        shape = self.config.autoencoder
        told = self.config.gain_channels
        beside = 2 * self.config.context_slices
        return DetailPath(self.config.detail, shape.channels[0], shape.stem, told, beside)

    def context_parameters(self) -> tuple[str, ...]:
        """Return the names of the parameters that exist only for neighbouring slices."""
        return tuple(
            name
            for name, _ in self.named_parameters()
            if name.startswith(("unet.beside.", "detail.beside."))
        )

    def gain_parameters(self) -> tuple[str, ...]:
        """Return the names of the parameters that exist only for the dose gain."""
        return tuple(
            name
            for name, _ in self.named_parameters()
            if name.startswith(("gain.", "unet.told."))
            or (".modulation." in name and not name.startswith("unet."))
        )

    def _embedded(self, gain: Tensor | None) -> Tensor | None:
        """Embed dose gains [batch]; None where the network is not told them."""
        return None if self.gain is None or gain is None else self.gain(gain)

    def _raw(self, z: Tensor) -> Tensor:
        return z * self.latent_std + self.latent_mean


def parameter_count(module: nn.Module) -> int:
    """Return the number of trainable parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())
