"""Weights that a fit starts from: a run, an exported model, the shipped one or a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from man_core.card import ModelCard
from man_core.errors import ModelError
from man_core.registry import find_model
from man_core.weights import load_weights
from training.errors import TrainingError
from training.fit.state import RECIPE_FILE, averaged_state

Tensors = Mapping[str, Tensor]

STAGE_ONE = "autoencoder."
"""Prefix of the parameter names of stage one in a complete MAN network."""


@dataclass(frozen=True)
class InitialWeights:
    """Initial weights by name.

    Attributes:
        source: Their origin, for messages.
        autoencoder: Stage one.
        network: Both stages with the statistics of the latents; None for a run of stage one.
    """

    source: str
    autoencoder: Tensors
    network: Tensors | None


def initial_weights(source: Path) -> InitialWeights:
    """Load the averaged weights of a run, or the weights of a model.

    Args:
        source: Folder of a run, folder of an exported model, its card, or a registry name.

    Raises:
        TrainingError: There is no such run or model, it cannot be read, or it is not MAN.
    """
    if (source / RECIPE_FILE).is_file():
        recipe, state = averaged_state(source)
        if recipe.method == "man-diffusion":
            return _of_network(str(source), state["network"])
        if recipe.method == "man-autoencoder":
            return InitialWeights(str(source), state["autoencoder"], None)
        raise TrainingError(f"{source} is a run of {recipe.method}, not of MAN.")
    return _of_network(str(source), _exported_weights(source, "man"))


def model_weights(source: Path, method: str) -> Tensors:
    """Load the weights of a run or of a model of a method with a single network.

    Args:
        source: See ``initial_weights``.
        method: Method of the recipe or of the card.

    Raises:
        TrainingError: There is no such run or model, it cannot be read, or it is of another
            method.
    """
    if not (source / RECIPE_FILE).is_file():
        return _exported_weights(source, method)
    recipe, state = averaged_state(source)
    if recipe.method != method:
        raise TrainingError(f"{source} is a run of {recipe.method}, not of {method}.")
    network: Tensors = state["network"]
    return network


def _exported_weights(source: Path, method: str) -> Tensors:
    try:
        card, folder = card_of(source)
        if card.method != method:
            raise TrainingError(
                f"The model {card.name!r} is of the method {card.method!r}, not {method!r}."
            )
        _, tensors = load_weights(folder / card.weights_file, card.weights_sha256)
    except ModelError as error:
        raise TrainingError(f"{source} cannot be the start of a fit. {error}") from error
    return tensors


def card_of(source: Path) -> tuple[ModelCard, Path]:
    """Return the card of a model and the folder of its weights.

    Args:
        source: Folder of an exported model, its card, or a registry name.

    Raises:
        ModelError: There is no such model.
        TrainingError: The folder contains none, or several.
    """
    if source.is_dir():
        cards = sorted(source.glob("*.json"))
        if len(cards) != 1:
            raise TrainingError(
                f"{source} is neither a run of `man-train fit` nor an exported model."
            )
        return find_model(str(cards[0]))
    return find_model(str(source))


def _of_network(source: str, network: Tensors) -> InitialWeights:
    autoencoder = {
        name.removeprefix(STAGE_ONE): tensor
        for name, tensor in network.items()
        if name.startswith(STAGE_ONE)
    }
    return InitialWeights(source, autoencoder, network)


def load_weights_into(
    module: nn.Module, tensors: Tensors, source: str, fresh: Sequence[str] = ()
) -> None:
    """Load weights into a module of the recipe.

    Args:
        module: Module to be trained.
        tensors: Weights by name.
        source: Their origin, for messages.
        fresh: Prefixes of names that may be missing and then keep their initial values.

    Raises:
        TrainingError: A tensor is missing, unexpected or has another shape.
    """
    try:
        missing, surplus = module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise TrainingError(
            f"The network of {source} has another shape than the recipe's."
        ) from error
    missing = [name for name in missing if not name.startswith(tuple(fresh))]
    if missing or surplus:
        raise TrainingError(
            f"The network of {source} has other layers than the recipe's: "
            f"{[*missing, *surplus][0]}."
        )


def restore_part(module: nn.Module, state: Mapping[str, Any], part: str) -> None:
    """Load one part of a checkpoint of the same recipe into its module.

    Args:
        module: Module to be trained.
        state: Checkpoint of the task.
        part: Key of the module's weights in it, which messages name too.

    Raises:
        TrainingError: The part is missing or has another shape.
    """
    try:
        module.load_state_dict(state[part])
    except (KeyError, RuntimeError) as error:
        raise TrainingError(
            f"The {part} of that run has another shape than the recipe's."
        ) from error
