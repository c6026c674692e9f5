"""Registry of models: name to card and, lazily, to denoiser. Importing it loads no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Protocol, cast

from man_core.card import NO_SAMPLER, ModelCard, Precision
from man_core.denoiser import Denoiser
from man_core.errors import ModelError
from man_core.texture import Texture

METHODS = {
    "bm3d": "man_core.denoisers.bm3d",
    "cnn10": "man_core.denoisers.cnn10",
    "ddpm": "man_core.denoisers.pixel_diffusion",
    "dn-dp": "man_core.denoisers.dn_dp",
    "du-gan": "man_core.denoisers.du_gan",
    "fast-ddpm": "man_core.denoisers.pixel_diffusion",
    "identity": "man_core.denoisers.identity",
    "man": "man_core.denoisers.man",
    "qae": "man_core.denoisers.qae",
    "redcnn": "man_core.denoisers.redcnn",
    "resnet": "man_core.denoisers.resnet",
    "wgan-vgg": "man_core.denoisers.wgan_vgg",
}
"""Module whose ``load`` builds the denoiser, by the method of a card."""

SEE_NEIGHBOURS = frozenset({"man"})
"""Methods that can see neighbouring slices."""

IDENTITY = ModelCard(
    name="identity",
    version="1",
    method="identity",
    summary="Changes nothing; for testing routes and storage without a model.",
    sampler=NO_SAMPLER,
    intended_use="Testing the line from PACS to PACS.",
)
"""Card of the model that returns its input."""

BM3D = ModelCard(
    name="bm3d",
    version="1",
    method="bm3d",
    summary="BM3D, block matching and collaborative filtering, for comparison.",
    sampler=NO_SAMPLER,
    steps=0,
    intended_use="Comparison with a method that needs no training (Dabov et al. 2007).",
    limits=(
        "The noise is measured in soft tissue and counts as the same in the whole slice.",
        "A slice with too little soft tissue to measure its noise is returned unchanged.",
    ),
    for_comparison=True,
)
"""Card of BM3D, which has no weights."""

WITHOUT_WEIGHTS = (IDENTITY, BM3D)
"""Cards of the methods that need no file."""


class _Factory(Protocol):
    def load(
        self, card: ModelCard, folder: Path, device: str, steps: int | None, precision: Precision
    ) -> Denoiser: ...


def pretrained_folder() -> Path:
    """Return the folder of the shipped cards and weights."""
    return Path(str(files("man_core") / "pretrained"))


def list_models(folder: Path | None = None) -> tuple[ModelCard, ...]:
    """List the cards of all models: without weights, the shipped ones and those in ``folder``."""
    return tuple(card for card, _ in _cards(folder))


def namesake(card: ModelCard, cards: Iterable[ModelCard]) -> ModelCard | None:
    """Return the first of some cards that has the same name and other weights; None if none has."""
    return next((other for other in cards if _differ(card, other)), None)


def _differ(card: ModelCard, other: ModelCard) -> bool:
    same = (card.method, card.weights_sha256) == (other.method, other.weights_sha256)
    return card.name == other.name and not same


def find_model(name: str, folder: Path | None = None) -> tuple[ModelCard, Path]:
    """Find the card of a model and the folder of its weights.

    Args:
        name: Registry name, or a path to a card (``.json``).
        folder: Further cards of the site.

    Raises:
        ModelError: There is no such model, several have this name, or a card cannot be read.
    """
    if name.endswith(".json"):
        return _read_card(Path(name)), Path(name).parent
    cards = _cards(folder)
    found = [(card, home) for card, home in cards if card.name == name]
    if not found:
        known = sorted({card.name for card, _ in cards})
        raise ModelError(f"There is no model named {name!r}; known are {', '.join(known)}.")
    card, home = found[-1]
    if (other := namesake(card, [card for card, _ in found])) is not None:
        raise ModelError(
            f"Two models with different weights are named {name!r} ({card.version} and"
            f" {other.version}): name the one you want by the path of its card, or export one of"
            " them again under another name."
        )
    return card, home


def load_denoiser(
    name: str,
    *,
    device: str = "auto",
    steps: int | None = None,
    folder: Path | None = None,
    precision: Precision | None = None,
    sampler: str | None = None,
    texture: Texture | None = None,
) -> Denoiser:
    """Build the denoiser of a model.

    Args:
        name: Registry name, or a path to a card (``.json``).
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        steps: Sampling steps; None takes the card's.
        folder: Further cards of the site.
        precision: Arithmetic of the network; None takes the card's.
        sampler: Name of a sampler; None takes the card's.
        texture: Fine noise that results keep; None takes the card's. The card of the denoiser
            names sampler, precision and texture as chosen, and its digest changes accordingly.

    Raises:
        ModelError: Unknown name, unreadable or changed weights, no such device, or a sampler that
            the model cannot use.
    """
    card, home = find_model(name, folder)
    if sampler is not None:
        card = _sampled_by(card, sampler)
    card = replace(card, precision=precision or card.precision, texture=texture or card.texture)
    import_module("man_core.device").choose_device(device)  # also where the method needs none
    if card.method not in METHODS:
        raise ModelError(
            f"Model {card.name!r} needs the method {card.method!r}, which this version lacks."
        )
    if card.context_slices and card.method not in SEE_NEIGHBOURS:
        raise ModelError(
            f"Model {card.name!r} cannot see neighbouring slices, as its card says: the method"
            f" {card.method!r} denoises each slice by itself."
        )
    factory = cast(_Factory, import_module(METHODS[card.method]))
    return factory.load(card, home, device, steps, card.precision)


def _sampled_by(card: ModelCard, sampler: str) -> ModelCard:
    if card.sampler == NO_SAMPLER:
        raise ModelError(f"Model {card.name!r} does not sample; omit the sampler.")
    return replace(card, sampler=sampler)


def _cards(folder: Path | None) -> list[tuple[ModelCard, Path]]:
    found = [(card, pretrained_folder()) for card in WITHOUT_WEIGHTS]
    for home in (pretrained_folder(), folder):
        if home is not None:
            found += [(_read_card(path), home) for path in sorted(home.glob("*.json"))]
    return found


def _read_card(path: Path) -> ModelCard:
    try:
        return ModelCard.load(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"The model card {path.name} cannot be read: {error}.") from error
