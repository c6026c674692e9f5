"""Export of weights and model card, as the registry reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from man_core.card import ModelCard
from man_core.nets.man import parameter_count
from man_core.weights import save_weights
from training.fit.task import RunFacts

INTENDED_USE = (
    "Noise reduction of low-dose CT image series for reading beside the original. "
    "Research use: not a cleared medical device."
)

LIMITS = (
    "Measured on the data named here only; other scanners, kernels and doses need a check by a "
    "physicist.",
    "Contrast near the noise level can be smoothed away; read findings on the original as well.",
)

ORIGIN_UNKNOWN = "The weights that the fit started from, and their licences, were not recorded."
"""Limit of a model whose run was begun by a version that did not record them."""


def export_model(
    card: ModelCard, network: nn.Module, config: Mapping[str, Any], folder: Path, facts: RunFacts
) -> Path:
    """Write ``<name>.safetensors`` and ``<name>.json`` into a folder.

    Args:
        card: Card with name, method, summary, sampler and steps.
        network: Trained network.
        config: Configuration of the network; embedded in the weights.
        folder: Destination; created if missing.
        facts: Facts of the fit.

    Returns:
        The path of the card.
    """
    known = facts.started_from is not None
    described = replace(
        card,
        trained_on=facts.trained_on,
        limits=(*card.limits, *LIMITS) if known else (*card.limits, *LIMITS, ORIGIN_UNKNOWN),
        started_from=facts.started_from or (),
    )
    return write_network(described, network, config, folder)


def write_network(
    card: ModelCard,
    network: nn.Module,
    config: Mapping[str, Any],
    folder: Path,
    *,
    compact: bool = True,
) -> Path:
    """Write the weights of a network and its card, which names them.

    Args:
        card: Card without facts of the weights file.
        network: Trained network.
        config: Configuration of the network; embedded in the weights.
        folder: Destination; created if missing.
        compact: Whether to round large tensors to float16.

    Returns:
        The path of the card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / f"{card.name}.safetensors"
    sha256 = save_weights(weights, network.state_dict(), config, compact=compact)
    written = replace(
        card,
        version=sha256[:12],
        weights_file=weights.name,
        weights_sha256=sha256,
        parameters=parameter_count(network),
        intended_use=INTENDED_USE,
    )
    path = folder / f"{card.name}.json"
    path.write_text(written.to_json(), encoding="utf-8")
    return path
