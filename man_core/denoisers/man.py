"""MAN: encode the low-dose slice, sample a clean latent conditioned on it, and decode it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from man_core.arithmetic import arithmetic
from man_core.batch_shape import BatchShape, DeviceMemory, device_memory
from man_core.card import ModelCard, Precision
from man_core.condition import Condition
from man_core.denoiser import OnStep
from man_core.denoisers.latent_sampler import latent_sampler
from man_core.denoisers.shared_noise import shared_noise
from man_core.device import choose_device, max_parallel_slices, run_in_parallel
from man_core.errors import ModelError
from man_core.fine_noise import keep_fine_noise
from man_core.nets.blocks import pad_to_multiple
from man_core.nets.man import ManConfig, ManNetwork
from man_core.tissue_means import restore_tissue_means
from man_core.weights import load_weights

WHOLE_SLICE = (0.0, 0.0, 1.0, 1.0)
"""Position of a whole slice: (top, left, bottom, right), fractions."""


class ManDenoiser:
    """A trained MAN network with the sampler that its card names.

    Args:
        card: Card of the model.
        network: Trained network.
        device: Device to run on.
        steps: Number of sampling steps.
        precision: Arithmetic; encoding and decoding are float32 or TF32, never bfloat16.
        memory: Memory of the device, if batches must have a fixed shape; one slice is denoised to
            measure how much it needs. None: on a CPU, where each slice is computed by itself.

    Raises:
        ModelError: The network was not trained for that sampler, there are too many steps, or the
            card has a dose gain and the network is not told it, or the other way round, or card
            and network differ on the number of neighbouring slices.
    """

    def __init__(
        self,
        card: ModelCard,
        network: ManNetwork,
        device: torch.device,
        steps: int,
        precision: Precision = "float32",
        memory: DeviceMemory | None = None,
    ) -> None:
        self.info = card
        self.device = str(device)
        self.steps = steps
        self._network = network.to(device).eval()
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device = device
        self._precision = precision
        self._config = network.config
        self._position = torch.tensor(WHOLE_SLICE, device=device)
        try:
            self._sampler = latent_sampler(self._network, card.sampler, steps)
        except ValueError as error:
            raise ModelError(f"Model {card.name!r}: {error}.") from error
        if (card.dose_gain is None) != (network.gain is None):
            raise ModelError(f"Model {card.name!r}: its card and its weights differ on dose gain.")
        if card.context_slices != self._config.context_slices:
            raise ModelError(
                f"Model {card.name!r}: its card and its weights differ on context slices."
            )
        self._batch = None if memory is None else BatchShape.measured(self._warm_up, memory)

    def denoise(
        self,
        hu: Tensor,
        condition: Condition,
        generator: torch.Generator,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Denoise slices in HU; on a CPU each slice in its own thread.

        A network that is told the dose gain leaves as much noise as it asks for. Every slice starts
        from the same noise, so that neighbouring slices do not flicker. Local mean HU are those of
        the source (``restore_tissue_means``), and some of its fine noise remains if the card has a
        texture (``keep_fine_noise``). Values outside the HU range of the network pass unchanged. A
        network that sees neighbours and is given none takes each slice itself for them.

        Raises:
            ValueError: Neighbours are given to a network that does not see that many.
            ModelError: A dose gain is wanted that the model cannot be told.
        """
        gain, hu = self.info.dose_gain_for(condition.dose_gain), self._planes(hu)
        if self._device.type != "cpu":
            return self._denoise(hu, gain, generator, on_step)

        def one(index: int) -> Tensor:
            callback = on_step if index == 0 else None
            return self._denoise(hu[index : index + 1], gain, generator.clone_state(), callback)

        return run_in_parallel(one, len(hu))

    def slices_at_once(self, rows: int, columns: int) -> int:
        """Return the batch size: on a CPU one slice per thread, on a GPU a fixed number.

        Always 1 on a GPU if sampling starts at the noise of the slice.
        """
        if self._batch is None:
            return max_parallel_slices()
        if self._config.start == "matched":
            return 1
        return self._batch.slices(rows, columns)

    def _warm_up(self, hu: Tensor) -> None:
        """Denoise slices [slice, row, column] with as many neighbours as the network sees."""
        self._denoise(self._planes(hu), self.info.dose_gain, torch.Generator(), None)

    def _planes(self, hu: Tensor) -> Tensor:
        """Return slices with their neighbours [slice, 1 + neighbour, row, column]."""
        planes = 1 + 2 * self._config.context_slices
        if hu.ndim == 3:
            return hu[:, None].expand(-1, planes, -1, -1)
        if hu.shape[1] != planes:
            raise ValueError(
                f"Each slice comes with {planes - 1} neighbours, not {hu.shape[1] - 1}."
            )
        return hu

    @torch.inference_mode()
    def _denoise(
        self, hu: Tensor, gain: float | None, generator: torch.Generator, on_step: OnStep | None
    ) -> Tensor:
        given, span = hu.to(self._device), self.info.hu_range
        source, seen = given[:, 0], given.clip(span.low, span.high)
        inside = seen[:, 0]
        padded = pad_to_multiple(span.to_network(seen), self._config.alignment)
        with arithmetic(self._device, self._precision):
            result = self._restore(padded, gain, generator, on_step)
        rows, columns = hu.shape[-2:]
        denoised = span.to_hu(result[:, 0, :rows, :columns])
        relative_gain = 1.0 if gain is None else gain / (self.info.dose_gain or gain)
        denoised = keep_fine_noise(inside, denoised, self.info.texture, relative_gain)
        return (restore_tissue_means(inside, denoised) + (source - inside)).to(hu.device)

    def _restore(
        self, seen: Tensor, gain: float | None, generator: torch.Generator, on_step: OnStep | None
    ) -> Tensor:
        x, neighbours = seen[:, :1], seen[:, 1:]
        beside = self._network.beside(x, neighbours)
        low = self._network.encode(x.contiguous(memory_format=torch.channels_last))
        position = self._position.expand(len(low), -1)
        gains = None if gain is None else torch.full((len(low),), gain, device=self._device)
        half = self._precision == "bfloat16"
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=half):
            noise = shared_noise(generator)
            clean = self._sampler.sample(low, position, noise, on_step, gains, beside)
        return self._network.reconstruct(clean, low, x, gains, neighbours)


def load(
    card: ModelCard, folder: Path, device: str, steps: int | None, precision: Precision
) -> ManDenoiser:
    """Build the denoiser of a card whose weights are in ``folder``.

    Raises:
        ModelError: Weights unreadable, changed or of another network; no such device; a sampler
            that the network was not trained for; too many steps.
    """
    config, tensors = load_weights(folder / card.weights_file, card.weights_sha256)
    try:
        network = ManNetwork(ManConfig.from_dict(config))
        network.load_state_dict(tensors)
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"The weights {card.weights_file} do not fit the MAN network of this version."
        ) from error
    place = choose_device(device)
    memory = device_memory(place)
    return ManDenoiser(card, network, place, steps or card.steps, precision, memory)
