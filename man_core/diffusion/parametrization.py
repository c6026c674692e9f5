"""Prediction targets of a network and the clean latent that follows from them."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Parametrization = Literal["eps", "v", "x0", "residual"]
"""``eps``: the noise (eq. 7). ``v``: Salimans and Ho 2022. ``x0``: the clean latent.
``residual``: the clean latent minus the condition, so that the network starts as the identity."""


def clean_from(
    kind: Parametrization, output: Tensor, z: Tensor, alpha_bar: Tensor, condition: Tensor
) -> Tensor:
    """Compute z_0 from the output of a network.

    Symbols: z = z_t, alpha_bar = cumulative signal share at t, condition = low-dose latent.
    """
    if kind == "eps":
        return (z - (1 - alpha_bar).sqrt() * output) / alpha_bar.sqrt()
    if kind == "v":
        return alpha_bar.sqrt() * z - (1 - alpha_bar).sqrt() * output
    return output if kind == "x0" else condition + output


def target_of(
    kind: Parametrization, clean: Tensor, noise: Tensor, alpha_bar: Tensor, condition: Tensor
) -> Tensor:
    """Compute the target of the network, given z_0 (``clean``) and the added noise."""
    if kind == "eps":
        return noise
    if kind == "v":
        return alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * clean
    return clean if kind == "x0" else clean - condition


def noise_from(clean: Tensor, z: Tensor, alpha_bar: Tensor) -> Tensor:
    """Compute the noise that explains z_t given z_0."""
    return (z - alpha_bar.sqrt() * clean) / (1 - alpha_bar).sqrt()
