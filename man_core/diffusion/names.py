"""Names of the kinds of diffusion and of their samplers; needs no torch."""

from __future__ import annotations

from typing import Literal

DiffusionKind = Literal["cosine", "residual-shift"]
"""``cosine``: from the clean latent to noise, as in the paper. ``residual-shift``: to the low-dose
latent."""

SAMPLERS: dict[DiffusionKind, tuple[str, ...]] = {
    "cosine": ("ddim", "dpmpp-2m", "ddpm"),
    "residual-shift": ("residual-shift", "residual-ddim"),
}
"""Samplers of each kind of diffusion, by the names in model cards; the first is the default."""
