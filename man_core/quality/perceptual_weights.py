"""Weights of the perceptual network: location, verification by SHA-256, and loading.

Only LPIPS needs them, the node does not. They are not part of the product: ``docs/perceptual.md``
describes their installation.
"""

from __future__ import annotations

import hashlib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

FEATURES_VARIABLE = "MAN_LPIPS_WEIGHTS"
"""Environment variable with the path of the AlexNet weights."""

FEATURES_SHA256 = {
    "f1cb25f05a8b4254ba9fa52aa38c6db4425f04f7b6a9ab7cf2504117bee331c4": "float16 safetensors",
    "7be5be79": "torchvision alexnet-owt-7be5be79.pth",
    "4df8aa71": "torchvision alexnet-owt-4df8aa71.pth",
}
"""Accepted files by the first digits of their SHA-256; torchvision names files by eight."""

HEADS_SHA256 = "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"
"""Linear heads v0.1 (BSD-2-Clause), which torchmetrics ships as ``lpips_models/alex.pth``."""

TORCHVISION_PATTERN = "alexnet-owt-*.pth"


class PerceptualWeightsError(ValueError):
    """The weights that LPIPS needs are missing or are not the published ones."""


def find_features() -> Path | None:
    """Find the weights of AlexNet on this machine; None if there are none.

    The file named by MAN_LPIPS_WEIGHTS, else that of torchvision in the download folder of torch.
    """
    import torch

    named = os.environ.get(FEATURES_VARIABLE)
    if named:
        return Path(named)
    downloads = Path(torch.hub.get_dir()) / "checkpoints"
    return next(iter(sorted(downloads.glob(TORCHVISION_PATTERN))), None)


def load_features(path: Path | None = None) -> dict[str, Tensor]:
    """Load the five convolutions of AlexNet as float32, named as in torchvision.

    Raises:
        PerceptualWeightsError: There is no file, or not the published weights of AlexNet.
    """
    path = path or find_features()
    if path is None:
        raise PerceptualWeightsError(
            "LPIPS needs the weights of AlexNet, which are not on this machine; "
            f"set {FEATURES_VARIABLE} to the path of torchvision's alexnet-owt-7be5be79.pth."
        )
    _check(path, tuple(FEATURES_SHA256))
    weights = _read(path)
    return {name: weight.float() for name, weight in weights.items() if name.startswith("features")}


def load_heads() -> list[Tensor]:
    """Load the five linear heads of LPIPS v0.1 for AlexNet, each [1, channel, 1, 1].

    Raises:
        PerceptualWeightsError: torchmetrics is missing or ships other heads.
    """
    spec = find_spec("torchmetrics")
    if spec is None or spec.origin is None:
        raise PerceptualWeightsError("LPIPS needs torchmetrics, which ships its linear heads.")
    path = Path(spec.origin).parent / "functional" / "image" / "lpips_models" / "alex.pth"
    _check(path, (HEADS_SHA256,))
    return [head.float() for _, head in sorted(_read(path).items())]


def _check(path: Path, accepted: tuple[str, ...]) -> None:
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise PerceptualWeightsError(
            f"The perceptual weights {path.name} cannot be read: {error.strerror}."
        ) from error
    if not found.startswith(accepted):
        raise PerceptualWeightsError(
            f"{path.name} is not a published perceptual network; its SHA-256 begins {found[:16]}."
        )


def _read(path: Path) -> dict[str, Tensor]:
    import torch
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        return load_file(path)
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights
