"""Denoisers of one pass: a fitted network maps a slice to the denoised one, without sampling."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from man_core.arithmetic import arithmetic
from man_core.batch_shape import BatchShape, DeviceMemory, device_memory
from man_core.card import ModelCard, Precision
from man_core.condition import Condition
from man_core.denoiser import OnStep
from man_core.device import choose_device
from man_core.errors import ModelError
from man_core.fine_noise import keep_fine_noise
from man_core.nets.single_pass import SinglePassNetwork
from man_core.weights import load_weights


class SinglePassDenoiser:
    """A trained network of one pass: deterministic, without sampling steps.

    Args:
        card: Card of the model.
        network: Trained network.
        device: Device to run on.
        precision: Arithmetic of the whole network.
        memory: Memory of the device, if batches must have a fixed shape; None: on a CPU.
    """

    def __init__(
        self,
        card: ModelCard,
        network: SinglePassNetwork,
        device: torch.device,
        precision: Precision = "float32",
        memory: DeviceMemory | None = None,
    ) -> None:
        self.info = card
        self.device = str(device)
        self.steps = 0
        self._network = network.to(device).eval()
        self._device = device
        self._precision = precision
        self._batch = None if memory is None else BatchShape.measured(self._denoise, memory)

    def denoise(
        self,
        hu: Tensor,
        condition: Condition,
        generator: torch.Generator,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Denoise [slice, row, column] HU; values outside the HU range pass unchanged.

        Some fine noise of the source remains if the card has a texture (``keep_fine_noise``).
        """
        return self._denoise(hu)

    def slices_at_once(self, rows: int, columns: int) -> int:
        """Return 1 on a CPU, where more gain nothing; on a GPU a fixed number."""
        return 1 if self._batch is None else self._batch.slices(rows, columns)

    @torch.inference_mode()
    def _denoise(self, hu: Tensor) -> Tensor:
        source, span = hu.to(self._device), self.info.hu_range
        inside = source.clip(span.low, span.high)
        half = self._precision == "bfloat16"
        with (
            arithmetic(self._device, self._precision),
            torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=half),
        ):
            restored = self._network.restore(span.to_network(inside)[:, None])
        result = span.to_hu(restored[:, 0].float())
        result = keep_fine_noise(inside, result, self.info.texture)
        return (result + (source - inside)).to(hu.device)


def load_single_pass(
    card: ModelCard,
    folder: Path,
    device: str,
    precision: Precision,
    build: Callable[[dict[str, Any]], SinglePassNetwork],
) -> SinglePassDenoiser:
    """Build the denoiser of a card whose weights are in ``folder``.

    Args:
        card: Card of the model.
        folder: Folder of its weights.
        device: Device to run on.
        precision: Arithmetic of the whole network.
        build: Builds the network from its configuration.

    Raises:
        ModelError: Weights unreadable, changed or of another network; no such device.
    """
    config, tensors = load_weights(folder / card.weights_file, card.weights_sha256)
    try:
        network = build(config)
        network.load_state_dict(tensors)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"The weights {card.weights_file} do not fit the network {card.method!r} of this"
            " version: export the model again."
        ) from error
    place = choose_device(device)
    return SinglePassDenoiser(card, network, place, precision, device_memory(place))
