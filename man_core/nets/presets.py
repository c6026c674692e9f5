"""Named configurations of MAN: the compact default and two of the size in the paper."""

from __future__ import annotations

from man_core.nets.autoencoder import AutoencoderConfig
from man_core.nets.detail import DetailConfig
from man_core.nets.man import ManConfig
from man_core.nets.unet import UnetConfig

MAN_S = ManConfig(detail=DetailConfig(channels=24))
"""Shipped default: factor 8, 48 latent channels, under 8 M parameters (decisions 0002, 0011)."""

MAN_F4 = ManConfig(
    autoencoder=AutoencoderConfig(
        latent=4,
        stem=2,
        channels=(96, 192),
        blocks=2,
        norm="group",
        attention_pool=4,
        linear_path=False,
    ),
    unet=UnetConfig(
        latent=4,
        channels=(96, 192, 288, 384),
        blocks=2,
        attention=(2, 3),
        condition="both",
        context=256,
        context_width=128,
        context_stride=4,
        heads=8,
        expansion=4,
        time=384,
        norm="group",
    ),
    prediction="eps",
)
"""Size of the paper with a factor of 4, which preserves more of the texture of CT."""

MAN_F8 = ManConfig(
    autoencoder=AutoencoderConfig(
        latent=4,
        stem=1,
        channels=(128, 256, 512, 512),
        blocks=2,
        norm="group",
        attention_pool=1,
        linear_path=False,
    ),
    unet=UnetConfig(
        latent=4,
        channels=(128, 256, 512),
        blocks=2,
        attention=(1, 2),
        condition="xattn",
        context=256,
        context_width=128,
        context_stride=2,
        heads=8,
        expansion=4,
        time=512,
        norm="group",
    ),
    prediction="eps",
)
"""Closest to the timing in the paper: factor 8, 4 latent channels, cross-attention only."""

PRESETS = {"man-s": MAN_S, "man-f4": MAN_F4, "man-f8": MAN_F8}
"""Configurations by preset name."""
