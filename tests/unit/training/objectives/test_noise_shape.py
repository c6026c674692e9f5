from __future__ import annotations

import pytest
import torch
from torch import Tensor

from man_core.filters import gaussian
from training.objectives.noise_shape import uneven_noise


def uneven(left: Tensor, of: Tensor) -> Tensor:
    return uneven_noise(left, of, torch.ones(len(of)))


def noise(std_hu: float = 30.0, crops: int = 4) -> Tensor:
    return std_hu * torch.randn((crops, 1, 64, 64), generator=torch.Generator().manual_seed(0))


def slow(hu: Tensor, sigma: float) -> Tensor:
    return gaussian(hu[:, 0], sigma)[:, None]


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
def test_an_equal_share_at_every_frequency_is_even(share: float) -> None:
    assert float(uneven(share * noise(), noise())) == pytest.approx(0.0, abs=1e-5)


def test_slow_noise_alone_is_the_more_uneven_the_slower_it_is() -> None:
    found = [float(uneven(slow(noise(), sigma), noise())) for sigma in (0.5, 1.0, 2.0)]
    assert 0.0 < found[0] < found[1] < found[2] < 1.0
    fast = noise() - slow(noise(), 1.0)
    assert float(uneven(fast, noise())) > 0.05


def test_amplitude_and_what_lies_in_other_places_do_not_count() -> None:
    other = slow(noise(), 1.0).flip(2)  # elsewhere, of the same spectrum
    assert float(uneven(other, noise())) == pytest.approx(
        float(uneven(slow(noise(), 1.0), noise())), rel=0.1
    )
    assert float(uneven(3 * other, 3 * noise())) == pytest.approx(
        float(uneven(other, noise())), rel=1e-4
    )


def test_a_result_without_noise_and_crops_without_noise_are_bounded() -> None:
    assert float(uneven(torch.zeros_like(noise()), noise())) == pytest.approx(0.0, abs=1e-6)
    assert float(uneven(slow(noise(), 1.0), torch.zeros_like(noise()))) == 0.0
    half = torch.cat((noise()[:2], torch.zeros_like(noise()[:2])))
    assert float(uneven(slow(half, 1.0), half)) == pytest.approx(
        float(uneven(slow(half[:2], 1.0), half[:2])), rel=1e-4
    )


def test_following_its_gradient_evens_the_noise_left() -> None:
    left = slow(noise(crops=1), 1.0).requires_grad_()
    before = uneven(left, noise(crops=1))
    (gradient,) = torch.autograd.grad(before, left)
    assert torch.isfinite(gradient).all()
    step = 1e-3 / gradient.norm() * left.detach().norm()
    assert float(uneven(left.detach() - step * gradient, noise(crops=1))) < float(before.detach())


def test_a_crop_counts_by_its_weight() -> None:
    left = torch.cat((slow(noise()[:2], 1.0), noise()[2:]))
    first = uneven_noise(left, noise(), torch.tensor([1.0, 1.0, 0.0, 0.0]))
    assert float(uneven_noise(left, noise(), torch.tensor([0.0, 0.0, 1.0, 1.0]))) < 1e-5
    torch.testing.assert_close(first, uneven(left, noise()), rtol=1e-3, atol=0)
    torch.testing.assert_close(uneven_noise(left, noise(), torch.full((4,), 0.5)), 0.5 * first)
