"""Ceiling of the autoencoder: no sampler can restore what the latent does not contain."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from man_core import ModelCard, ModelError
from man_core.device import choose_device
from man_core.nets.man import ManConfig, ManNetwork
from man_core.quality import Window
from man_core.weights import load_weights
from training.evaluate.cases import Case


class Reconstruction:
    """Reconstruction of full dose by the autoencoder of a model (gate 1 of the default model).

    Args:
        card: Card of the model.
        folder: Folder of its weights.
        device: Device to compute on.

    Raises:
        ModelError: The model has no autoencoder, or its weights cannot be used.
    """

    def __init__(self, card: ModelCard, folder: Path, device: str) -> None:
        if card.method != "man":
            raise ModelError(f"Model {card.name!r} has no autoencoder; omit --ceiling.")
        config, tensors = load_weights(folder / card.weights_file, card.weights_sha256)
        self._range = card.hu_range
        self._device = choose_device(device)
        self._network = ManNetwork(ManConfig.from_dict(config))
        self._network.load_state_dict(tensors)
        self._network.to(self._device).eval()

    @torch.inference_mode()
    def __call__(self, case: Case, _window: Window) -> tuple[NDArray[np.float32], float]:
        """Return HU [slice, row, column] and seconds."""
        began = time.monotonic()
        restored = np.concatenate([self._through(plane[None]) for plane in case.full])
        return restored, time.monotonic() - began

    def _through(self, hu: NDArray[np.float32]) -> NDArray[np.float32]:
        rows, columns = hu.shape[1:]
        step = self._network.config.alignment
        x = self._range.to_network(torch.from_numpy(hu.copy()))[:, None].to(self._device)
        x = functional.pad(x, (0, -columns % step, 0, -rows % step), mode="replicate")
        restored = self._network.decode(self._network.encode(x))[:, 0, :rows, :columns]
        result: NDArray[np.float32] = self._range.to_hu(restored).cpu().numpy()
        return result
