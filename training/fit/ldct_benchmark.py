"""Published networks of ldct-benchmark (Eulig et al. 2024, Med Phys 51:8776) in our format.

Its networks see stored values, HU + 1024, less their mean and divided by their standard deviation,
and their output is to be brought back by the same two numbers. (The helper ``denormalize`` of the
benchmark's package adds the deviation instead of the mean, which makes every result 20.7 HU too
bright; its published tables were not made by it.) Here the two numbers go into the configuration of
the network, as centre and scale of network values.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from man_core.card import NO_SAMPLER, ModelCard
from man_core.hu import HuRange
from man_core.nets.cnn10 import Cnn10, Cnn10Config
from man_core.nets.qae import Qae, QaeConfig
from man_core.nets.redcnn import RedCnn, RedCnnConfig
from man_core.nets.resnet import ResNet, ResNetConfig
from man_core.nets.single_pass import SinglePassNetwork
from man_core.nets.wgan_vgg import WganVgg, WganVggConfig
from man_core.weights import file_sha256
from training.errors import RecipeError, TrainingError
from training.fit.checkpoint_file import check_fits, load_checkpoint, state_in
from training.fit.export import check_name, keep
from training.fit.tasks.export import LIMITS, write_network

STATE = "model_state_dict"

STORED_OFFSET = 1024.0
"""Stored value of 0 HU in the benchmark's data."""

NORMALISATIONS = {
    "meanstd": (481.45419786099086, 502.18507379395044),
    "minmax": (0.0, 4095.0),
}
"""Stored value that a network sees as 0, and difference that it sees as 1, by their name there."""

Configured = Callable[[float, float], SinglePassNetwork]
"""Builds a network from centre and scale."""


@dataclass(frozen=True)
class _Published:
    """A published network.

    Attributes:
        title: Method and paper.
        method: Method of our card, which may be that of another network of the same layers.
        build: Builds the network.
        sha256: Hash of the published file.
        renamed: Maps a name of a tensor there to ours.
    """

    title: str
    method: str
    build: Configured
    sha256: str
    renamed: Callable[[str], str] = str


def _red_cnn_name(name: str) -> str:
    """Map ``conv1.weight`` to ``down.0.weight`` and ``tconv1.weight`` to ``up.0.weight``."""
    layer, _, part = name.partition(".")
    for theirs, ours in (("tconv", "up"), ("conv", "down")):
        if layer.startswith(theirs) and layer.removeprefix(theirs).isdecimal():
            return f"{ours}.{int(layer.removeprefix(theirs)) - 1}.{part}"
    return name


def _red_cnn(centre: float, scale: float) -> SinglePassNetwork:
    return RedCnn(RedCnnConfig(centre=centre, scale=scale))


def _qae_name(name: str) -> str:
    """Map ``encoder.0.W_r`` to ``encoder.0.w_r`` and ``encoder.0.b_b`` to ``encoder.0.c``."""
    layer, _, part = name.rpartition(".")
    return f"{layer}.{'c' if part == 'b_b' else part.lower()}"


PUBLISHED = {
    "cnn10": _Published(
        "CNN-10 (Chen et al. 2017)",
        "cnn10",
        lambda centre, scale: Cnn10(Cnn10Config(centre=centre, scale=scale)),
        "ee96e494c8eda02e946464df29cf43c14163e63bc4b1df6d8907ee33a1a18c3e",
    ),
    "qae": _Published(
        "Q-AE (Fan et al. 2020)",
        "qae",
        lambda centre, scale: Qae(QaeConfig(centre=centre, scale=scale)),
        "ca6ce543b476d4c3673acd2f3d1284d47d98483c41a61cc912f5214c80921363",
        _qae_name,
    ),
    "redcnn": _Published(
        "RED-CNN (Chen et al. 2017)",
        "redcnn",
        _red_cnn,
        "058ae58264a00116e5620ed88047e687c7e93c8b732bfd6d7796e76bae0c74f3",
        _red_cnn_name,
    ),
    "dugan": _Published(
        "DU-GAN (Huang et al. 2022) with the generator of RED-CNN",
        "redcnn",
        _red_cnn,
        "c6faad8376994fe22eadc0a723f81705fda6f435f40ef0f999666e871216ac5e",
        _red_cnn_name,
    ),
    "resnet": _Published(
        "ResNet (Missert et al. 2018)",
        "resnet",
        lambda centre, scale: ResNet(ResNetConfig(centre=centre, scale=scale)),
        "4fe7137fe5abe7c381d746914528eaf23f061204580d8f027faf4d5eaaca6714",
    ),
    "wganvgg": _Published(
        "WGAN-VGG (Yang et al. 2018)",
        "wgan-vgg",
        lambda centre, scale: WganVgg(WganVggConfig(centre=centre, scale=scale)),
        "1ad87d16aefea99a9eeb474c33127971131cc21a07e129bf464c764cf9ca6003",
    ),
}
"""Networks that can be imported, by their name in the benchmark."""

TRAINED_ON = (
    "ldct-benchmark's training split of LDCT-and-Projection-data (Siemens; chest at a tenth of the"
    " dose, abdomen and head at a quarter, simulated), as its authors publish it; not fitted here"
)
CREDITS = (
    "ldct-benchmark, Eulig et al., Med Phys 51:8776, 2024",
    "LDCT-and-Projection-data, The Cancer Imaging Archive, doi:10.7937/9npb-2637",
)
"""Sources to credit."""

LICENCE = "as ldct-benchmark publishes them; its code is under the MIT licence"
"""Its pages state no licence of the weights themselves."""


def import_published(
    file: Path, out: Path, *, method: str | None = None, name: str | None = None
) -> Path:
    """Write a published network in our format, ready for the node and for tables.

    Args:
        file: Checkpoint, as the benchmark publishes it.
        out: Folder of the model; created if missing.
        method: Name of the method in the benchmark; None: as the file says.
        name: Name of the model; None: ``ldctbench-`` and the method.

    Returns:
        The card's file.

    Raises:
        RecipeError: The method is unknown, or the name cannot be one.
        TrainingError: The file is no such checkpoint, or another model has the name.
    """
    check_name(name)
    checkpoint = load_checkpoint(file)
    said = _arguments(checkpoint)
    sha256 = file_sha256(file)
    known = _method(file, method, said, sha256)
    published = PUBLISHED[known]
    network = published.build(*_centre_and_scale(file, said))
    state = state_in(checkpoint, STATE, file)
    tensors = {published.renamed(key): tensor for key, tensor in state.items()}
    check_fits(tensors, network.state_dict(), f"{file} ({known})")
    network.load_state_dict(tensors)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".import-") as part:
        made = _written(network, published, f"ldctbench-{known}", sha256, Path(part))
        return keep(made, out, name)


def _written(
    network: SinglePassNetwork, published: _Published, name: str, sha256: str, folder: Path
) -> Path:
    origin = "the published file" if sha256 == published.sha256 else "a file of its format"
    card = ModelCard(
        name=name,
        version="",
        method=published.method,
        summary=f"{published.title} as fitted by ldct-benchmark, for comparison.",
        sampler=NO_SAMPLER,
        steps=0,
        licence=LICENCE,
        credits=CREDITS,
        trained_on=f"{TRAINED_ON}. Imported from {origin}, sha256 {sha256}.",
        limits=LIMITS,
        for_comparison=True,
    )
    return write_network(card, network, network.config.to_dict(), folder, compact=False)


def _arguments(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the fit that a checkpoint records."""
    said = checkpoint.get("args")
    if isinstance(said, argparse.Namespace):
        return vars(said)
    return said if isinstance(said, dict) else {}


def _method(file: Path, wanted: str | None, said: Mapping[str, Any], sha256: str) -> str:
    """Return the method of a file: by its hash, else as wanted, else as its arguments say."""
    by_hash = next((name for name, one in PUBLISHED.items() if one.sha256 == sha256), None)
    named = by_hash or said.get("trainer")
    if wanted is not None and named is not None and wanted != named:
        raise TrainingError(f"{file} is of {named!r}, not of {wanted!r}: omit --method.")
    method = wanted or named
    if method is None:
        raise RecipeError(f"{file} does not say its method: give --method, {_names()}.")
    if method not in PUBLISHED:
        raise RecipeError(f"The method {method!r} cannot be imported, only {_names()}.")
    return str(method)


def _names() -> str:
    *names, last = PUBLISHED
    return f"{', '.join(names)} or {last}"


def _centre_and_scale(file: Path, said: Mapping[str, Any]) -> tuple[float, float]:
    """Return the network values that the network sees as 0, and as the difference of 1."""
    normalisation = said.get("data_norm", "meanstd")
    if normalisation not in NORMALISATIONS:
        raise TrainingError(f"{file} was fitted with an unknown normalisation, {normalisation!r}.")
    centre, scale = NORMALISATIONS[normalisation]
    span = HuRange()
    return (centre - STORED_OFFSET - span.low) / span.half_width - 1.0, scale / span.half_width
