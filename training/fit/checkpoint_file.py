"""Checkpoint files of other programs, read without running anything that they contain."""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.errors import TrainingError

MAX_CHECKPOINT_BYTES = 64 << 20
"""Bytes of a file, and of all that it unpacks to; the largest network needs 8 MiB."""


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a dictionary that ``torch.save`` wrote, with tensors and plain values only.

    Raises:
        TrainingError: The file is missing, too large, damaged, of an older format, or contains
            anything that would have to be executed.
    """
    _check_size(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file does to its reader
        raise TrainingError(
            f"{path} is damaged, or contains more than tensors and plain values, which is not"
            " loaded: get the file again from its source."
        ) from error
    if not isinstance(found, dict):
        raise TrainingError(f"{path} is not a checkpoint: it contains no dictionary.")
    return found


def state_in(checkpoint: Mapping[str, Any], key: str, path: Path) -> dict[str, Tensor]:
    """Return the tensors under a key of a checkpoint.

    Raises:
        TrainingError: There are none.
    """
    state = checkpoint.get(key)
    if not isinstance(state, dict) or not state:
        raise TrainingError(f"{path} is not a checkpoint of a network: it has no {key!r}.")
    tensors = {name: one for name, one in state.items() if isinstance(one, Tensor)}
    if len(tensors) < len(state) or not all(isinstance(name, str) for name in state):
        raise TrainingError(f"{path} has other things than named tensors under {key!r}.")
    return tensors


def check_fits(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str) -> None:
    """Check that tensors have the names and shapes of those of a network, and finite values.

    Raises:
        TrainingError: They do not; the first difference is named.
    """
    if absent := sorted(wanted.keys() - tensors.keys()):
        raise TrainingError(f"{what} lacks {absent[0]!r}: it is of another network.")
    if strange := sorted(tensors.keys() - wanted.keys()):
        raise TrainingError(f"{what} has an unknown {strange[0]!r}: it is of another network.")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            sizes = (" x ".join(map(str, one.shape)) for one in (tensor, wanted[name]))
            found, expected = (size or "a single value" for size in sizes)
            raise TrainingError(
                f"{what} has {found} values in {name!r} where its network has {expected}."
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise TrainingError(f"{what} has values in {name!r} that are not finite.")


def _check_size(path: Path) -> None:
    try:
        size = path.stat().st_size
        unpacked = _unpacked_bytes(path) if size <= MAX_CHECKPOINT_BYTES else size
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror or 'read error'}.") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise TrainingError(
            f"{path} is not a checkpoint of PyTorch 1.6 or later, or it is damaged: get the file"
            " again from its source."
        ) from error
    if max(size, unpacked) > MAX_CHECKPOINT_BYTES:
        raise TrainingError(
            f"{path} is larger than {MAX_CHECKPOINT_BYTES >> 20} MiB, which no network that can be"
            " imported needs."
        )


def _unpacked_bytes(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist())
