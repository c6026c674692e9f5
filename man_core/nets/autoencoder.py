"""Stage one of MAN: variational autoencoder of a CT slice, without skip connections."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from man_core.nets.attention import PooledAttention
from man_core.nets.blocks import Downsample, NormKind, ResidualBlock, Upsample, norm, zeroed
from man_core.nets.gain import modulated

LOG_VARIANCE_RANGE = (-30.0, 10.0)
"""Clamp of the posterior's log variance, which keeps its exponential finite."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """Architecture of an autoencoder.

    Attributes:
        latent: Latent channels z.
        stem: Factor of the pixel-unshuffle in front of the first level.
        channels: Channels of each level, finest first.
        blocks: Residual blocks per level.
        norm: Normalisation kind.
        attention_pool: Pooling of keys and values in the attention; 1: none, 0: no attention.
        linear_path: Whether a linear path, initialised by PCA, is added to the non-linear one.
    """

    latent: int = 48
    stem: int = 4
    channels: tuple[int, ...] = (64, 96)
    blocks: int = 1
    norm: NormKind = "pixel"
    attention_pool: int = 4
    linear_path: bool = True

    @property
    def factor(self) -> int:
        """Pixels per latent position along a row."""
        return self.stem * 2 ** (len(self.channels) - 1)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Posterior:
    """Diagonal Gaussian q(z|x): mean and log variance, [batch, latent, row, column]."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw a sample by the reparametrisation of Kingma and Welling (2014)."""
        noise = torch.empty_like(self.mean).normal_(generator=generator)
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def kl(self) -> Tensor:
        """KL divergence of eq. 1 of the MAN paper, averaged over latent elements."""
        return 0.5 * (self.mean**2 + self.log_variance.exp() - self.log_variance - 1).mean()


def _deep(channels: int, config: AutoencoderConfig, told: int = 0) -> list[nn.Module]:
    first, last = (ResidualBlock(channels, channels, config.norm, told) for _ in range(2))
    if not config.attention_pool:
        return [first, last]
    return [first, PooledAttention(channels, config.norm, pool=config.attention_pool), last]


class Encoder(nn.Module):
    """Maps a slice [batch, 1, row, column] to features [batch, 2 * latent, row / f, column / f]."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths = config.channels
        layers: list[nn.Module] = [
            nn.PixelUnshuffle(config.stem),
            nn.Conv2d(config.stem**2, widths[0], 3, padding=1),
        ]
        for level, width in enumerate(widths):
            layers += [ResidualBlock(width, width, config.norm) for _ in range(config.blocks)]
            if level + 1 < len(widths):
                layers.append(Downsample(width, widths[level + 1]))
        layers += [*_deep(widths[-1], config), norm(config.norm, widths[-1]), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        self.out = nn.Conv2d(widths[-1], 2 * config.latent, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return features whose halves are mean and log variance."""
        return self.out(self.layers(x))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Maps a latent [batch, latent, row, column] to features, and those to a slice.

    Args:
        config: Architecture.
        told: Channels of an embedding that modulates the residual blocks; 0: none does.
    """

    def __init__(self, config: AutoencoderConfig, told: int = 0) -> None:
        super().__init__()
        widths = config.channels[::-1]
        layers: list[nn.Module] = [
            nn.Conv2d(config.latent, widths[0], 3, padding=1),
            *_deep(widths[0], config, told),
        ]
        for level, width in enumerate(widths):
            layers += [ResidualBlock(width, width, config.norm, told) for _ in range(config.blocks)]
            if level + 1 < len(widths):
                layers.append(Upsample(width, widths[level + 1]))
        layers += [norm(config.norm, widths[-1]), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        self.out = nn.Conv2d(widths[-1], config.stem**2, 3, padding=1)
        self.stem = config.stem

    def forward(self, z: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Return the last features [batch, channel, row / stem, column / stem]."""
        return modulated(self.layers, z, embedding)

    def image_of(self, features: Tensor) -> Tensor:
        """Map the last features [batch, channel, row / stem, column / stem] to a slice."""
        return F.pixel_shuffle(self.out(features), self.stem)


class Autoencoder(nn.Module):
    """Encoder E and decoder D of the MAN paper, section 3.2, for values in [-1, 1].

    Args:
        config: Architecture.
        told: Channels of an embedding that modulates the decoder; 0: none does.
    """

    def __init__(self, config: AutoencoderConfig, told: int = 0) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config, told)
        self.analysis = self.synthesis = None
        if config.linear_path:
            zeroed(self.encoder.out)
            zeroed(self.decoder.out)
            self.analysis = nn.Conv2d(1, config.latent, config.factor, stride=config.factor)
            self.synthesis = nn.ConvTranspose2d(
                config.latent, 1, config.factor, stride=config.factor
            )

    def encode(self, x: Tensor) -> Posterior:
        """Encode a slice [batch, 1, row, column]; its sizes are multiples of the factor."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        if self.analysis is not None:
            mean = mean + self.analysis(x)
        return Posterior(mean, log_variance.clamp(*LOG_VARIANCE_RANGE))

    def decode(self, z: Tensor) -> Tensor:
        """Decode a latent [batch, latent, row, column] to [batch, 1, f * row, f * column]."""
        return self.decode_with_features(z)[0]

    def decode_with_features(
        self, z: Tensor, embedding: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode; return slice and last features [batch, channel, row / stem, column / stem]."""
        features = self.decoder(z, embedding)
        x = self.decoder.image_of(features)
        return (x if self.synthesis is None else x + _patches(self.synthesis, z)), features


def _patches(synthesis: nn.ConvTranspose2d, z: Tensor) -> Tensor:
    """Apply the layer as a matrix product: faster, and equal since its patches do not overlap."""
    bias = synthesis.bias
    assert bias is not None
    factor = synthesis.stride[0]
    kernel = synthesis.weight.flatten(1).T[:, :, None, None]
    return F.pixel_shuffle(F.conv2d(z, kernel, bias.expand(factor**2)), factor)


@torch.no_grad()
def initialise_linear_path(model: Autoencoder, patches: Tensor, noise: float) -> None:
    """Set the linear path to the whitened principal components of patches.

    Args:
        model: Untrained autoencoder with a linear path.
        patches: [patch, factor * factor] values in [-1, 1].
        noise: Desired pixel standard deviation of the posterior's noise, in the same unit.
    """
    assert model.analysis is not None
    assert model.synthesis is not None
    latent, factor = model.config.latent, model.config.factor
    mean = patches.mean(dim=0)
    variance, basis = torch.linalg.eigh(torch.cov((patches - mean).T))
    basis = basis.flip(1)[:, :latent].T
    std = variance.flip(0)[:latent].clamp_min(1e-12).sqrt()
    model.analysis.weight.copy_((basis / std[:, None]).view(latent, 1, factor, factor))
    model.analysis.bias.copy_(-(basis @ mean) / std)  # type: ignore[union-attr]
    model.synthesis.weight.copy_((basis * std[:, None]).view(latent, 1, factor, factor))
    model.synthesis.bias.fill_(float(mean.mean()))  # type: ignore[union-attr]
    spread = noise * factor / latent**0.5 / std
    model.encoder.out.bias[latent:] = 2 * spread.clamp(1e-4, 1.0).log()  # type: ignore[index]
