"""Diffusion in pixel space, sampled slice by slice: conditional DDPM and Fast-DDPM."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from man_core.arithmetic import arithmetic
from man_core.batch_shape import BatchShape, DeviceMemory, device_memory
from man_core.card import ModelCard, Precision
from man_core.condition import Condition
from man_core.denoiser import OnStep
from man_core.denoisers.shared_noise import shared_noise
from man_core.device import choose_device
from man_core.diffusion.names import SAMPLERS
from man_core.diffusion.samplers import NoiseSource, ddim, ddpm, dpmpp_2m
from man_core.errors import ModelError
from man_core.fine_noise import keep_fine_noise
from man_core.nets.blocks import pad_to_multiple
from man_core.nets.pixel_diffusion import PixelDiffusion, PixelDiffusionConfig
from man_core.weights import load_weights


class SliceSampler(Protocol):
    """Draws clean slices, given low-dose ones."""

    @property
    def network(self) -> nn.Module:
        """Trained network."""
        ...

    @property
    def alignment(self) -> int:
        """Number that divides the rows and columns it takes."""
        ...

    def sample(
        self, x: Tensor, noise: NoiseSource, on_step: OnStep | None = None, *, steps: int
    ) -> Tensor:
        """Denoise slices.

        Args:
            x: [slice, 1, row, column] in [-1, 1].
            noise: Source of all noise.
            on_step: Progress callback.
            steps: Sampling steps.

        Returns:
            Slices of the same shape.
        """
        ...


class ConditionalSampler:
    """Samples a diffusion to which the low-dose slice is shown.

    Args:
        network: Trained network.
        sampler: One of ``SAMPLERS["cosine"]``: all take any schedule.

    Raises:
        ValueError: There is no such sampler.
    """

    def __init__(self, network: PixelDiffusion, sampler: str) -> None:
        if sampler not in SAMPLERS["cosine"]:
            known = " or ".join(SAMPLERS["cosine"])
            raise ValueError(f"it cannot be sampled by {sampler!r}; use {known}")
        self.network = network
        self._sampler = sampler

    @property
    def alignment(self) -> int:
        """See ``SliceSampler``."""
        return self.network.config.alignment

    def sample(
        self, x: Tensor, noise: NoiseSource, on_step: OnStep | None = None, *, steps: int
    ) -> Tensor:
        """See ``SliceSampler.sample``.

        Raises:
            ValueError: More steps are requested than were trained.
        """
        network, standard = self.network, self.network.config.standard
        low, subset = standard.apply(x), network.config.subset(steps)

        def model(z: Tensor, step: int) -> Tensor:
            return network.predict_clean(z, step, low)

        z = noise(low)
        if self._sampler == "ddpm":
            clean = ddpm(model, z, subset, network.schedule, noise, on_step)
        else:
            solve = {"ddim": ddim, "dpmpp-2m": dpmpp_2m}[self._sampler]
            clean = solve(model, z, subset, network.schedule, on_step)
        return standard.undo(clean)


class PixelDiffusionDenoiser:
    """A trained diffusion in pixel space; deterministic given the generator.

    Args:
        card: Card of the model.
        sampler: Network with its way of sampling.
        device: Device to run on.
        steps: Sampling steps; known to be possible.
        precision: Arithmetic of the network; the slices between steps are always float32.
        memory: Memory of the device, if batches must have a fixed shape; one step of one slice is
            run to measure how much it needs. None: on a CPU.
    """

    def __init__(
        self,
        card: ModelCard,
        sampler: SliceSampler,
        device: torch.device,
        steps: int,
        precision: Precision = "float32",
        memory: DeviceMemory | None = None,
    ) -> None:
        self.info = card
        self.device = str(device)
        self.steps = steps
        self._sampler = sampler
        self._device = device
        self._precision = precision
        network = sampler.network.to(device).eval()
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._batch = None if memory is None else BatchShape.measured(self._one_step, memory)

    def denoise(
        self,
        hu: Tensor,
        condition: Condition,
        generator: torch.Generator,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Denoise [slice, row, column] HU; values outside the HU range pass unchanged.

        Every slice starts from the same noise, so that neighbouring slices do not flicker. Some
        fine noise of the source remains if the card has a texture (``keep_fine_noise``).
        """
        return self._denoise(hu, generator, on_step, self.steps)

    def slices_at_once(self, rows: int, columns: int) -> int:
        """Return 1 on a CPU, where more gain nothing; on a GPU a fixed number."""
        return 1 if self._batch is None else self._batch.slices(rows, columns)

    def _one_step(self, hu: Tensor) -> None:
        self._denoise(hu, torch.Generator(), None, 1)

    @torch.inference_mode()
    def _denoise(
        self, hu: Tensor, generator: torch.Generator, on_step: OnStep | None, steps: int
    ) -> Tensor:
        source, span = hu.to(self._device), self.info.hu_range
        inside = source.clip(span.low, span.high)
        x = pad_to_multiple(span.to_network(inside)[:, None], self._sampler.alignment)
        half = self._precision == "bfloat16"
        with (
            arithmetic(self._device, self._precision),
            torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=half),
        ):
            drawn = self._sampler.sample(x, shared_noise(generator), on_step, steps=steps)
        rows, columns = hu.shape[-2:]
        result = span.to_hu(drawn[:, 0, :rows, :columns].float())
        result = keep_fine_noise(inside, result, self.info.texture)
        return (result + (source - inside)).to(hu.device)


def load(
    card: ModelCard, folder: Path, device: str, steps: int | None, precision: Precision
) -> PixelDiffusionDenoiser:
    """Build the denoiser of a card whose weights are in ``folder``.

    Raises:
        ModelError: Weights unreadable, changed or of another network; no such device; an unknown
            sampler; too many steps.
    """

    def build(config: dict[str, Any]) -> PixelDiffusion:
        return PixelDiffusion(PixelDiffusionConfig.from_dict(config))

    return load_sampled(card, folder, device, steps, precision, build, ConditionalSampler)


class _HasSteps(Protocol):
    """Configuration that knows which steps can be sampled."""

    def subset(self, count: int) -> list[int]: ...


class _Sampled(Protocol):
    """Network whose configuration is that."""

    @property
    def config(self) -> _HasSteps: ...

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> object: ...


Sampled = TypeVar("Sampled", bound=_Sampled)


def load_sampled(
    card: ModelCard,
    folder: Path,
    device: str,
    steps: int | None,
    precision: Precision,
    build: Callable[[dict[str, Any]], Sampled],
    sampler: Callable[[Sampled, str], SliceSampler],
) -> PixelDiffusionDenoiser:
    """Build a denoiser that samples.

    Args:
        card: Card of the model.
        folder: Folder of its weights.
        device: Device to run on.
        steps: Sampling steps; None takes the card's.
        precision: Arithmetic of the network.
        build: Builds the network from its configuration.
        sampler: Builds the sampler of a name.

    Raises:
        ModelError: See ``load``.
    """
    config, tensors = load_weights(folder / card.weights_file, card.weights_sha256)
    try:
        network = build(config)
        network.load_state_dict(tensors)
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"The weights {card.weights_file} do not fit the network {card.method!r} of this"
            " version: export the model again."
        ) from error
    count, place = steps or card.steps, choose_device(device)
    try:
        chosen = sampler(network, card.sampler)
        network.config.subset(count)
    except ValueError as error:
        raise ModelError(f"Model {card.name!r}: {error}.") from error
    return PixelDiffusionDenoiser(card, chosen, place, count, precision, device_memory(place))
