from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.objectives.gain import draw_gain


def drawn(dose: float, share: float, crops: int = 256) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    full = torch.zeros(crops, 1, 8, 8)
    added = torch.randn(full.shape, generator=generator)
    gain, wanted = draw_gain(full, full + added, torch.full((crops,), dose), share, generator)
    return gain, wanted, added


def test_without_a_share_every_crop_asks_for_its_full_dose() -> None:
    gain, wanted, _ = drawn(dose=0.25, share=0.0)
    assert torch.equal(gain, torch.full_like(gain, 4.0))
    assert not wanted.any()


def test_an_untouched_crop_asks_for_itself() -> None:
    gain, wanted, added = drawn(dose=1.0, share=0.5)
    assert torch.equal(gain, torch.ones_like(gain))
    assert torch.equal(wanted, added) or not wanted.any()


@pytest.mark.parametrize("dose", [0.05, 0.25, 0.6])
def test_the_noise_that_is_asked_for_is_that_of_the_dose_times_the_gain(dose: float) -> None:
    gain, wanted, added = drawn(dose, share=1.0)
    assert (gain >= 1.0).all()
    assert (gain <= 1.0 / dose + 1e-5).all()
    kept = (wanted / added).square()[:, 0, 0, 0]  # share of the variance that was added
    at = dose * gain
    torch.testing.assert_close(kept * (1 / dose - 1), 1 / at - 1, atol=1e-4, rtol=1e-3)


def test_gains_are_even_in_their_logarithm() -> None:
    gain, _, _ = drawn(dose=1 / 16, share=1.0, crops=4096)
    counts = torch.histc(torch.log2(gain), bins=4, min=0.0, max=4.0) / len(gain)
    torch.testing.assert_close(counts, torch.full((4,), 0.25), atol=0.03, rtol=0.0)


def test_the_share_of_lower_gains_is_as_stated() -> None:
    gain, _, _ = drawn(dose=0.25, share=0.3, crops=4096)
    assert float((gain < 3.999).float().mean()) == pytest.approx(0.3, abs=0.03)
