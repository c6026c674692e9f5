"""RED-CNN: one pass of a residual encoder-decoder network."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from man_core.card import ModelCard
from man_core.condition import Condition
from man_core.denoiser import OnStep, Precision
from man_core.device import choose_device, slices_in_memory
from man_core.errors import ModelError
from man_core.nets.redcnn import RedCnn, RedCnnConfig
from man_core.weights import load_weights

CUDA_BYTES_PER_PIXEL = 3000
"""Working memory of a slice on a GPU, calculated: two stored and three transient feature maps of
96 channels of float32, plus half as much again."""


class RedCnnDenoiser:
    """A trained RED-CNN: deterministic, without sampling steps."""

    def __init__(
        self,
        card: ModelCard,
        network: RedCnn,
        device: torch.device,
        precision: Precision = "float32",
    ) -> None:
        self.info = card
        self.device = str(device)
        self.steps = 0
        self._network = network.to(device).eval()
        self._device = device
        self._half = precision == "bfloat16"

    @torch.inference_mode()
    def denoise(
        self,
        hu: Tensor,
        condition: Condition,
        generator: torch.Generator,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Denoise [slice, row, column] HU; values outside the HU range pass unchanged."""
        span = self.info.hu_range
        inside = hu.clip(span.low, span.high)
        x = span.to_network(inside)[:, None].to(self._device)
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._half):
            restored = self._network.restore(x)
        return span.to_hu(restored[:, 0].float().cpu()) + (hu - inside)

    def slices_at_once(self, rows: int, columns: int) -> int:
        """Return the number of slices that fit in memory in one call."""
        return slices_in_memory(self._device, rows, columns, CUDA_BYTES_PER_PIXEL)


def load(
    card: ModelCard, folder: Path, device: str, steps: int | None, precision: Precision
) -> RedCnnDenoiser:
    """Build the denoiser of a card whose weights are in ``folder``; ``steps`` is ignored.

    Raises:
        ModelError: Weights unreadable, changed or of another network; no such device.
    """
    config, tensors = load_weights(folder / card.weights_file, card.weights_sha256)
    try:
        network = RedCnn(RedCnnConfig(**config))
        network.load_state_dict(tensors)
    except (TypeError, RuntimeError) as error:
        raise ModelError(
            f"The weights {card.weights_file} do not fit the RED-CNN of this version."
        ) from error
    return RedCnnDenoiser(card, network, choose_device(device), precision)
