"""Wide means of tissue stay the source's; findings, noise and what is clipped are left alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from man_core.hu import CLIPPED_HU
from man_core.tissue_means import restore_tissue_means

AIR, LUNG, SOFT = -1000.0, -850.0, 40.0
SIZE = 160
LUNG_EDGE = 80  # columns from here on are soft tissue


def chest() -> torch.Tensor:
    """One slice: lung on the left, soft tissue on the right, in HU."""
    hu = torch.full((1, SIZE, SIZE), LUNG)
    hu[..., LUNG_EDGE:] = SOFT
    return hu


def noise(std_hu: float, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return std_hu * torch.randn(1, SIZE, SIZE, generator=generator)


def test_a_shift_of_one_tissue_is_taken_back_and_the_other_not_touched() -> None:
    source = chest()
    result = source.clone()
    result[..., :LUNG_EDGE] -= 6.0

    kept = restore_tissue_means(source, result)

    assert (kept - source)[..., : LUNG_EDGE - 12].abs().max() < 0.6
    assert (kept - source)[..., LUNG_EDGE + 12 :].abs().max() < 0.2


def test_a_shift_is_found_below_loud_noise() -> None:
    source = chest() + noise(40.0)
    result = chest()
    result[..., :LUNG_EDGE] -= 6.0

    shift = (restore_tissue_means(source, result) - chest())[..., : LUNG_EDGE - 12]

    assert abs(float(shift.mean())) < 1.0
    assert float(shift.std()) < 2.0  # of 40 HU of noise hardly any comes back


def test_a_lesion_that_the_result_lost_does_not_come_back_as_a_haze() -> None:
    source = chest()
    source[..., 60:68, 120:128] += 100.0

    haze = restore_tissue_means(source, chest()) - chest()

    assert haze.abs().max() < 4.0


def test_clipped_air_keeps_what_the_network_made_of_it() -> None:
    clipped = (torch.full((1, SIZE, SIZE), AIR) + noise(60.0)).clip(min=-1024.0)
    assert (clipped <= CLIPPED_HU).float().mean() > 0.2
    result = torch.full_like(clipped, AIR)

    assert torch.equal(restore_tissue_means(clipped, result), result)


@settings(deadline=None, max_examples=25)
@given(
    slices=st.integers(1, 3),
    rows=st.integers(1, 70),
    columns=st.integers(1, 70),
    seed=st.integers(0, 2**16),
)
def test_what_changes_nothing_stays_bit_for_bit(
    slices: int, rows: int, columns: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    hu = 2000.0 * torch.rand(slices, rows, columns, generator=generator) - 1024.0
    assert torch.equal(restore_tissue_means(hu, hu), hu)


@settings(deadline=None, max_examples=25)
@given(
    rows=st.integers(40, 130),
    columns=st.integers(40, 130),
    level=st.sampled_from([-990.0, LUNG, -100.0, SOFT, 900.0]),
    shift=st.floats(-20.0, 20.0),
)
def test_a_shift_of_the_whole_image_is_taken_back_at_any_size(
    rows: int, columns: int, level: float, shift: float
) -> None:
    source = torch.full((1, rows, columns), level)
    kept = restore_tissue_means(source, source + shift)
    assert (kept - source).abs().max() <= 0.05 * abs(shift) + 1e-3


@pytest.mark.parametrize("slices", [2, 5])
def test_each_slice_is_judged_by_itself(slices: int) -> None:
    source = torch.cat([chest() + noise(20.0, seed) for seed in range(slices)])
    result = source - torch.arange(slices)[:, None, None]
    together = restore_tissue_means(source, result)
    alone = [restore_tissue_means(source[i : i + 1], result[i : i + 1]) for i in range(slices)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_rounding_and_the_order_of_sums_matter_less_than_a_thousandth_of_a_hu(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    source, result = chest() + noise(40.0), chest() + noise(3.0, seed=2)
    result[..., :LUNG_EDGE] -= 6.0
    exact = restore_tissue_means(source.double(), result.double())
    found = restore_tissue_means(source.to(device), result.to(device)).cpu()
    assert float((found - exact).abs().max()) < 1e-3
