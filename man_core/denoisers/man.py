"""MAN: encode the low-dose slice, sample a clean latent conditioned on it, decode."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from man_core.card import ModelCard
from man_core.condition import Condition
from man_core.denoiser import OnStep, Precision
from man_core.device import choose_device
from man_core.diffusion.parametrization import clean_from
from man_core.diffusion.samplers import ddim
from man_core.diffusion.schedule import cosine_schedule, timestep_subset
from man_core.errors import ModelError
from man_core.nets.man import ManConfig, ManNetwork
from man_core.weights import load_weights

CUDA_BYTES_PER_PIXEL = 6000
"""Working memory of a slice on a GPU, by calculation and not yet measured: a dozen feature maps of
man-f8's first level, 128 channels of float32 at full resolution. Ample for man-s."""

CUDA_MEMORY_SHARE = 0.5
"""Share of the free GPU memory that a batch may take."""

WHOLE_SLICE = (0.0, 0.0, 1.0, 1.0)
"""Position of a slice in itself: (top, left, bottom, right)."""


class ManDenoiser:
    """A fitted MAN network with its sampler.

    Raises:
        ModelError: There are more steps asked for than the schedule has.
    """

    def __init__(
        self,
        card: ModelCard,
        network: ManNetwork,
        device: torch.device,
        steps: int,
        precision: Precision = "float32",
    ) -> None:
        self.info = card
        self.device = str(device)
        self.steps = steps
        self._network = network.to(device).eval()
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device = device
        self._half = precision == "bfloat16"
        self._config = network.config
        self._schedule = cosine_schedule(self._config.diffusion_steps)
        try:
            self._subset = timestep_subset(self._config.first_step, steps)
        except ValueError as error:
            raise ModelError(f"model {card.name!r}: {error}") from error

    @torch.inference_mode()
    def denoise(
        self,
        hu: Tensor,
        condition: Condition,
        generator: torch.Generator,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Denoise [slice, row, column] HU.

        Every slice starts from the same noise, so that neighbouring slices do not flicker.

        What lies outside the network's HU range is handed through unchanged.
        """
        inside = hu.clip(self.info.hu_range.low, self.info.hu_range.high)
        padded = _pad(self.info.hu_range.to_network(inside)[:, None], self._config.alignment)
        result = self._restore(padded.to(self._device), generator, on_step).cpu()
        rows, columns = hu.shape[-2:]
        return self.info.hu_range.to_hu(result[:, 0, :rows, :columns]) + (hu - inside)

    def slices_at_once(self, rows: int, columns: int) -> int:
        """One on a CPU, where more gain nothing; on a GPU what fits in half of the free memory."""
        if self._device.type != "cuda":
            return 1
        free, _ = torch.cuda.mem_get_info(self._device)
        return max(1, int(free * CUDA_MEMORY_SHARE / (rows * columns * CUDA_BYTES_PER_PIXEL)))

    def _restore(self, x: Tensor, generator: torch.Generator, on_step: OnStep | None) -> Tensor:
        low = self._network.encode(x.contiguous(memory_format=torch.channels_last))
        start = self._start(low, generator)
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._half):
            clean = ddim(self._model(low), start, self._subset, self._schedule, on_step)
        restored = self._network.decode(clean)
        if self._config.detail_share:
            restored = restored + self._config.detail_share * (x - self._network.decode(low))
        return restored

    def _start(self, low: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(low[:1].shape, generator=generator).to(low).expand_as(low)
        if self._config.start == "noise":
            return noise
        return self._schedule.noised(low, torch.full((len(low),), self._subset[0]), noise)

    def _model(self, low: Tensor) -> _CleanLatent:
        return _CleanLatent(self._network, low, self._schedule.alpha_bar)


class _CleanLatent:
    """The network seen by a sampler: (z_t, t) to the predicted clean latent."""

    def __init__(self, network: ManNetwork, low: Tensor, alpha_bar: Tensor) -> None:
        self._network, self._low, self._alpha_bar = network, low, alpha_bar
        self._position = torch.tensor(WHOLE_SLICE, device=low.device).expand(len(low), -1)

    def __call__(self, z: Tensor, step: int) -> Tensor:
        steps = torch.full((len(z),), step, device=z.device)
        output = self._network.predict(z, steps, self._low, self._position)
        config = self._network.config
        level = self._alpha_bar[step].float().to(z.device)
        clean = clean_from(config.prediction, output, z, level, self._low)
        return clean.clamp(-config.latent_clamp, config.latent_clamp)


def _pad(x: Tensor, multiple: int) -> Tensor:
    rows, columns = x.shape[-2:]
    padding = (0, -columns % multiple, 0, -rows % multiple)
    return F.pad(x, padding, mode="replicate") if any(padding) else x


def load(
    card: ModelCard, folder: Path, device: str, steps: int | None, precision: Precision
) -> ManDenoiser:
    """Build the denoiser of a card whose weights lie in ``folder``.

    Raises:
        ModelError: Weights unreadable, changed or of another network; no such device; too many
            steps.
    """
    config, tensors = load_weights(folder / card.weights_file, card.weights_sha256)
    try:
        network = ManNetwork(ManConfig.from_dict(config))
        network.load_state_dict(tensors)
    except (TypeError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"the weights {card.weights_file} do not fit the MAN network of this version"
        ) from error
    return ManDenoiser(card, network, choose_device(device), steps or card.steps, precision)
