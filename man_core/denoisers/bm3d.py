"""BM3D: block matching and collaborative filtering (Dabov et al. 2007), for comparison.

It needs no fit: amplitude and texture of the noise are estimated in each slice.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from man_core.arithmetic import arithmetic
from man_core.card import ModelCard, Precision
from man_core.condition import Condition
from man_core.denoiser import OnStep
from man_core.denoisers.bm3d_filter import bm3d
from man_core.device import choose_device
from man_core.noise import MIN_PATCHES, NoiseTexture, estimate_noise_and_texture
from man_core.noise_texture import image_power

_SPECTRUM_PIXELS = 64
"""Side of the noise power spectrum: far more than the reach of the noise's correlation."""


class Bm3dDenoiser:
    """BM3D with the noise of each slice: deterministic, without weights or steps.

    Args:
        card: Card of the method.
        device: Device to run on.
    """

    def __init__(self, card: ModelCard, device: torch.device) -> None:
        self.info = card
        self.device = str(device)
        self.steps = 0
        self._device = device

    @torch.inference_mode()
    def denoise(
        self,
        hu: Tensor,
        condition: Condition,
        generator: torch.Generator,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Denoise [slice, row, column] HU; values outside the HU range pass unchanged.

        So does a slice with too little soft tissue to measure its noise.
        """
        with arithmetic(self._device, "float32"):
            return torch.stack([self._denoise(one) for one in hu])

    def slices_at_once(self, rows: int, columns: int) -> int:
        """Return 1: each slice has noise of its own."""
        return 1

    def _denoise(self, hu: Tensor) -> Tensor:
        inside = hu.clip(self.info.hu_range.low, self.info.hu_range.high)
        noise = estimate_noise_and_texture(inside.cpu().numpy())
        if noise.patches < MIN_PATCHES or noise.std_hu == 0.0:
            return hu
        result = bm3d(inside.to(self._device), noise_power(noise)).to(hu.device)
        return result + (hu - inside)


def noise_power(noise: NoiseTexture) -> Tensor:
    """Return the power spectrum of a noise; see ``bm3d_transforms.coefficient_variances``."""
    shape = image_power(_SPECTRUM_PIXELS, _SPECTRUM_PIXELS, noise.cutoff)
    return torch.from_numpy(shape * (noise.std_hu**2 / shape.mean()))


def load(
    card: ModelCard, folder: Path, device: str, steps: int | None, precision: Precision
) -> Bm3dDenoiser:
    """Build the denoiser; it has no weights, and computes in float32 whatever ``precision`` says.

    Raises:
        ModelError: There is no such device.
    """
    return Bm3dDenoiser(card, choose_device(device))
