"""Networks of the denoising benchmark, with their theoretical cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from man_core import Condition, load_denoiser
from man_core.card import Precision
from man_core.device import max_parallel_slices
from man_core.nets.ddpm_unet import DdpmUnet, DdpmUnetConfig
from man_core.nets.redcnn import RedCnn, RedCnnConfig

DDPM_STEPS = 1000
"""Evaluations of the network for a slice by ancestral sampling (Ho et al. 2020)."""

LONG_STEPS = 30
"""DDIM steps of the MAN paper."""

MAN, MAN_LONG, RED_CNN, DDPM = "MAN", "MAN, 30 steps", "RED-CNN", "DDPM"

SEED = 1
"""Seed of random weights and of the starting noise."""


@dataclass(frozen=True)
class Network:
    """One of the compared networks.

    Attributes:
        name: Name in the table.
        steps: Evaluations of the sampled network for a slice.
        timed: Evaluations that ``run`` makes; the time of the others is extrapolated.
        parameters: Number of trainable parameters.
        gmac: 10^9 multiply-adds of convolutions and matrix products for a complete slice.
        on_cpu: Batch size on a CPU: MAN processes one slice per thread, the others use all
            threads within a slice, which suits large convolutions.
        run: Denoises a number of slices with a number of rows and columns on the device.
    """

    name: str
    steps: int
    timed: int
    parameters: int
    gmac: float
    on_cpu: int
    run: Callable[[int, int], None]

    @property
    def share(self) -> float:
        """Share of the work of a slice that ``run`` does."""
        return self.timed / self.steps


@dataclass(frozen=True)
class Place:
    """Device, arithmetic, and side of the slices in pixels."""

    device: torch.device
    precision: Precision
    size: int


def man(name: str, steps: int | None, place: Place) -> Network:
    """Build the shipped MAN through the interface of the node: HU in, HU out, with transfers."""
    denoiser = load_denoiser(
        "man", device=str(place.device), steps=steps, precision=place.precision
    )

    def run(batch: int, size: int) -> None:
        generator = torch.Generator().manual_seed(SEED)
        denoiser.denoise(torch.zeros(batch, size, size), Condition(), generator)

    with patch("man_core.denoisers.man.run_in_parallel", _in_this_thread):
        gmac = multiply_adds(lambda: run(1, place.size))
    steps, on_cpu = denoiser.steps, max_parallel_slices()
    return Network(name, steps, steps, denoiser.info.parameters, gmac, on_cpu, run)


def _in_this_thread(run: Callable[[int], Tensor], count: int) -> Tensor:
    """Process slices one after another, since the counter of torch sees its own thread only."""
    return torch.cat([run(index) for index in range(count)])


def red_cnn(place: Place) -> Network:
    """Build RED-CNN of the published size with random weights."""
    return _plain(RED_CNN, lambda: RedCnn(RedCnnConfig()), _one_image, place, 1, 1)


def ddpm(place: Place, timed: int, config: DdpmUnetConfig = DdpmUnetConfig()) -> Network:  # noqa: B008 - frozen
    """Build a conditional DDPM in pixel space: the published U-Net with random weights."""
    return _plain(DDPM, lambda: DdpmUnet(config), _pair, place, DDPM_STEPS, timed)


def multiply_adds(run: Callable[[], object]) -> float:
    """Count 10^9 multiply-adds of a call: half of the FLOPs counted by torch.

    Attention is counted as its matrix products, since the counter of torch does not support the
    fused kernels on every device.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops()) / 2 / 1e9


Inputs = Callable[[int, int, torch.device], tuple[Tensor, ...]]


def _plain(
    name: str, build: Callable[[], nn.Module], inputs: Inputs, place: Place, steps: int, timed: int
) -> Network:
    torch.manual_seed(SEED)
    network = build().to(place.device).eval()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    half = place.precision == "bfloat16"

    @torch.inference_mode()
    def run(batch: int, size: int) -> None:
        values = inputs(batch, size, place.device)
        with torch.autocast(place.device.type, dtype=torch.bfloat16, enabled=half):
            for _ in range(timed):
                network(*values).cpu()

    parameters = sum(parameter.numel() for parameter in network.parameters())
    gmac = steps * _on_paper(build, inputs, place.size)
    return Network(name, steps, timed, parameters, gmac, 1, run)


def _on_paper(build: Callable[[], nn.Module], inputs: Inputs, size: int) -> float:
    """Count the multiply-adds of one evaluation without running it."""
    meta = torch.device("meta")
    with meta:
        network = build().eval()
    with torch.no_grad():
        return multiply_adds(lambda: network(*inputs(1, size, meta)))


def _one_image(batch: int, size: int, device: torch.device) -> tuple[Tensor, ...]:
    return (_channels_last(torch.zeros(batch, 1, size, size, device=device)),)


def _pair(batch: int, size: int, device: torch.device) -> tuple[Tensor, ...]:
    """Make low-dose slice, noisy slice and step."""
    images = _channels_last(torch.zeros(batch, 2, size, size, device=device))
    return images, torch.full((batch,), DDPM_STEPS // 2, device=device)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
