"""A tiny MAN network that is told the dose gain; its weights are random."""

from __future__ import annotations

from pathlib import Path

import torch

from man_core import ModelCard
from man_core.nets.autoencoder import AutoencoderConfig
from man_core.nets.detail import DetailConfig
from man_core.nets.man import ManConfig, ManNetwork
from man_core.nets.unet import UnetConfig
from man_core.weights import save_weights

DEFAULT_GAIN = 4.0

CONFIG = ManConfig(
    AutoencoderConfig(latent=4, stem=2, channels=(8, 8)),
    UnetConfig(latent=4, channels=(8, 16), attention=(1,), context=16, context_width=8, time=16),
    detail=DetailConfig(channels=8, blocks=1),
    gain_channels=8,
)


def network_of(config: ManConfig = CONFIG) -> ManNetwork:
    """The network, the same in every process."""
    torch.manual_seed(0)
    network = ManNetwork(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return network


def write_told_model(folder: Path, config: ManConfig = CONFIG) -> Path:
    """Write weights and card of the model ``told``; returns the path of the card, its name."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = network_of(config).state_dict()
    sha256 = save_weights(folder / "told.safetensors", tensors, config.to_dict())
    card = ModelCard(
        name="told",
        version="0",
        method="man",
        summary="told",
        weights_file="told.safetensors",
        weights_sha256=sha256,
        dose_gain=DEFAULT_GAIN,
        context_slices=config.context_slices,
    )
    path = folder / "told.json"
    path.write_text(card.to_json(), encoding="utf-8")
    return path
