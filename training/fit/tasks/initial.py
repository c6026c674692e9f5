"""Weights that a fit starts from: those of a run, of an exported model or of the shipped one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from man_core.card import ModelCard
from man_core.errors import ModelError
from man_core.registry import find_model
from man_core.weights import load_weights
from training.errors import TrainingError
from training.fit.state import RECIPE_FILE, averaged_state

Tensors = Mapping[str, Tensor]

STAGE_ONE = "autoencoder."
"""What the names of stage one begin with among those of a whole MAN network."""


@dataclass(frozen=True)
class InitialWeights:
    """Fitted values by name.

    Attributes:
        source: What they were taken from, for messages.
        autoencoder: Stage one.
        network: Both stages with the latents' statistics; None for a run of stage one.
    """

    source: str
    autoencoder: Tensors
    network: Tensors | None


def initial_weights(source: Path) -> InitialWeights:
    """Averaged weights of a run, or the weights of a model.

    Args:
        source: Folder of a run, folder of an exported model, its card, or a registry name.

    Raises:
        TrainingError: There is no such run or model, or it cannot be read, or it is no MAN.
    """
    if (source / RECIPE_FILE).is_file():
        recipe, state = averaged_state(source)
        if recipe.method == "man-diffusion":
            return _of_network(str(source), state["network"])
        if recipe.method == "man-autoencoder":
            return InitialWeights(str(source), state["autoencoder"], None)
        raise TrainingError(f"{source} is a run of {recipe.method}, not of MAN")
    return _of_network(str(source), _exported_weights(source, "man"))


def model_weights(source: Path, method: str) -> Tensors:
    """Averaged weights of a run, or the weights of a model, of a method with a single network.

    Args:
        source: As of ``initial_weights``.
        method: Of the recipe and of the card.

    Raises:
        TrainingError: There is no such run or model, or it cannot be read, or is of another method.
    """
    if not (source / RECIPE_FILE).is_file():
        return _exported_weights(source, method)
    recipe, state = averaged_state(source)
    if recipe.method != method:
        raise TrainingError(f"{source} is a run of {recipe.method}, not of {method}")
    network: Tensors = state["network"]
    return network


def _exported_weights(source: Path, method: str) -> Tensors:
    try:
        card, folder = _card_of(source)
        if card.method != method:
            raise TrainingError(
                f"the model {card.name!r} is no {method}: its method is {card.method!r}"
            )
        _, tensors = load_weights(folder / card.weights_file, card.weights_sha256)
    except ModelError as error:
        raise TrainingError(f"nothing to start from in {source}: {error}") from error
    return tensors


def _card_of(source: Path) -> tuple[ModelCard, Path]:
    if source.is_dir():
        cards = sorted(source.glob("*.json"))
        if len(cards) != 1:
            raise TrainingError(
                f"{source} is neither a run of `man-train fit` nor the folder of one exported model"
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


def take(module: nn.Module, tensors: Tensors, source: str, fresh: Sequence[str] = ()) -> None:
    """Put weights into a module of the recipe's shape.

    Args:
        module: What is to be fitted.
        tensors: Values by name.
        source: What they were taken from.
        fresh: What the names of values begin with that may be missing and then stay as they are.

    Raises:
        TrainingError: A value is missing, is one too many or has another shape.
    """
    try:
        missing, surplus = module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise TrainingError(
            f"the network of {source} has another shape than the recipe's"
        ) from error
    missing = [name for name in missing if not name.startswith(tuple(fresh))]
    if missing or surplus:
        raise TrainingError(
            f"the network of {source} has other layers than the recipe's: {[*missing, *surplus][0]}"
        )
