"""DU-GAN: one pass of its generator."""

from __future__ import annotations

from pathlib import Path

from man_core.card import ModelCard, Precision
from man_core.denoisers.single_pass import SinglePassDenoiser, load_single_pass
from man_core.nets.du_gan import DuGan, DuGanConfig


def load(
    card: ModelCard, folder: Path, device: str, steps: int | None, precision: Precision
) -> SinglePassDenoiser:
    """Build the denoiser of a card whose weights are in ``folder``; ``steps`` is ignored.

    Raises:
        ModelError: Weights unreadable, changed or of another network; no such device.
    """
    return load_single_pass(
        card, folder, device, precision, lambda config: DuGan(DuGanConfig(**config))
    )
