"""Networks of one pass: what they return before a fit, at their edges, and for known weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from man_core.nets.du_gan import DuGan, DuGanConfig, UnetDiscriminator
from man_core.nets.qae import Qae, QaeConfig, QuadraticConvolution
from man_core.nets.single_pass import SinglePassNetwork
from man_core.nets.wgan_vgg import Critic, WganVgg, WganVggConfig

NARROW: dict[str, Callable[[], SinglePassNetwork]] = {
    "du-gan": lambda: DuGan(DuGanConfig(channels=4, depth=4)),
    "qae": lambda: Qae(QaeConfig(channels=4)),
    "wgan-vgg": lambda: WganVgg(WganVggConfig(channels=4)),
}
"""Narrow networks by their method; RED-CNN's tests are in ``denoisers/test_comparisons.py``."""

GOLDEN = {
    "du-gan": (-0.3983, -0.52436, -0.26255),
    "wgan-vgg": (0.28682, 0.34626, 0.47331),
    "qae": (-0.65335, -0.79655, -0.5709),
}
"""Results of ``reproducible`` weights for ``ramp``: pixels (0, 0), (4, 7) and (11, 11)."""


OFFSETS = {"du-gan": 0.1, "qae": 0.0, "wgan-vgg": 0.2}
"""Mean of ``reproducible`` weights: enough that rectifiers are not silent, and values not large."""


def reproducible(method: str) -> SinglePassNetwork:
    """Build a narrow network whose weights depend on no generator of random numbers."""
    network = NARROW[method]()
    for number, parameter in enumerate(network.parameters()):
        index = torch.arange(parameter.numel(), dtype=torch.float64)
        waves = 0.5 * torch.sin(1.7 * index + number) + OFFSETS[method]
        values = waves / math.sqrt(parameter[0].numel())
        parameter.data = values.reshape(parameter.shape).float()
    return network


def ramp() -> Tensor:
    """A slice [1, 1, 12, 12] in [-1, 1] with structure in both directions."""
    index = torch.arange(144, dtype=torch.float64).reshape(1, 1, 12, 12)
    return (-0.75 + 0.2 * torch.sin(index / 5) + 0.001 * index).float()


@pytest.mark.parametrize("method", NARROW)
def test_an_unfitted_network_returns_slices_of_any_size(method: str) -> None:
    for rows, columns in ((1, 1), (1, 7), (12, 5), (40, 40)):
        x = torch.rand(2, 1, rows, columns) * 2 - 1
        torch.testing.assert_close(NARROW[method]().restore(x), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", NARROW)
def test_the_rim_of_an_even_slice_is_as_even_as_its_middle(method: str) -> None:
    with torch.no_grad():
        found = reproducible(method).restore(torch.full((1, 1, 30, 23), -0.5))
    assert float((found + 0.5).abs().max()) > 0.01
    assert float(found.max() - found.min()) < 1e-4


@pytest.mark.parametrize("method", NARROW)
def test_known_weights_give_the_stored_result(method: str) -> None:
    with torch.no_grad():
        found = reproducible(method).restore(ramp())[0, 0]
    pixels = [float(found[at]) for at in ((0, 0), (4, 7), (11, 11))]
    assert pixels == pytest.approx(GOLDEN[method], abs=2e-4)


def test_a_quadratic_neuron_is_two_factors_and_a_square() -> None:
    layer = QuadraticConvolution(1, 1, 3, padding=1)
    for number, parameter in enumerate(layer.parameters()):
        torch.nn.init.constant_(parameter, 0.1 * (number + 1))
    w_r, w_g, w_b, b_r, b_g, c = (0.1 * (number + 1) for number in range(6))
    x = torch.tensor([[1.0, -2.0, 0.5]])[None, None]
    total, squares = -0.5, 1.0 + 4.0 + 0.25
    expected = (w_r * total + b_r) * (w_g * total + b_g) + w_b * squares + c
    assert float(layer(x).detach()[0, 0, 0, 1]) == pytest.approx(expected)


def test_quadratic_layers_start_as_linear_ones() -> None:
    layer = QuadraticConvolution(2, 3, 3, padding=0, transposed=True)
    x, y = torch.randn(2, 1, 2, 5, 5)
    torch.testing.assert_close(layer(x) + layer(y), layer(x + y), atol=1e-5, rtol=0)


@pytest.mark.parametrize("levels", [1, 3])
def test_the_discriminator_scores_the_crop_and_each_pixel(levels: int) -> None:
    torch.manual_seed(0)
    discriminator = UnetDiscriminator(channels=2, levels=levels)
    whole, pixels = discriminator(torch.randn(2, 1, 16, 24))
    assert whole.shape == (2, 1)
    assert pixels.shape == (2, 1, 16, 24)


def test_a_critic_of_crops_that_are_too_small_is_refused() -> None:
    assert Critic(29, channels=2, hidden=4)(torch.randn(3, 1, 29, 29)).shape == (3, 1)
    with pytest.raises(ValueError, match="too small"):
        Critic(28, channels=2, hidden=4)
