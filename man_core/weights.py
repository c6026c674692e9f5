"""Weights files: safetensors with embedded network configuration, verified at every load."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from man_core.errors import ModelError

CONFIG_KEY = "config"
"""Metadata key of the embedded network configuration."""

MIN_HALF_PRECISION_VALUES = 8192
"""Tensors with at least this many values are stored as float16. Smaller ones (norms, statistics,
the linear path of the autoencoder) stay float32: they take little space and set the HU scale."""


def save_weights(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    config: Mapping[str, Any],
    *,
    compact: bool = True,
) -> str:
    """Write weights and configuration; return the SHA-256 of the file.

    Args:
        path: File.
        tensors: Weights by name.
        config: Configuration of the network.
        compact: Whether to round large tensors to float16.
    """
    stored = {name: _stored(tensor, compact) for name, tensor in tensors.items()}
    save_file(stored, path, metadata={CONFIG_KEY: json.dumps(config, sort_keys=True)})
    return file_sha256(path)


def load_weights(path: Path, sha256: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read configuration and float32 tensors.

    Raises:
        ModelError: The file is missing, unreadable, without configuration, or its hash differs.
    """
    _verify(path, sha256)
    try:
        with safe_open(path, framework="pt") as file:
            config = json.loads((file.metadata() or {})[CONFIG_KEY])
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ModelError(
            f"The weights {path.name} cannot be read ({error}); install them again."
        ) from error
    return config, tensors


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(path: Path, sha256: str) -> None:
    try:
        found = file_sha256(path)
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise ModelError(
            f"The weights {path.name} cannot be read ({reason}); install them again."
        ) from error
    if found != sha256:
        raise ModelError(
            f"The weights {path.name} are not those of their card "
            f"(sha256 {found[:12]}…, expected {sha256[:12]}…); install them again."
        )


def _stored(tensor: torch.Tensor, compact: bool) -> torch.Tensor:
    half = compact and tensor.is_floating_point() and tensor.numel() >= MIN_HALF_PRECISION_VALUES
    return tensor.detach().to("cpu", torch.float16 if half else torch.float32).contiguous()
