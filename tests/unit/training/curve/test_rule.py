"""The default of a dial: highest SSIM, then lowest LPIPS, at most 0.15 dB of PSNR lost."""

from __future__ import annotations

import math

import pytest

from training.curve.rule import Quality, default_position

GAINS = (1.0, 2.0, 4.0, 8.0)


def chosen(psnr: list[float], ssim: list[float], lpips: list[float]) -> float:
    return default_position([Quality(*one) for one in zip(GAINS, psnr, ssim, lpips, strict=True)])


def test_the_highest_ssim_decides_before_lpips() -> None:
    assert chosen([31.0] * 4, [0.85, 0.88, 0.90, 0.87], [0.01, 0.02, 0.09, 0.03]) == 4.0


def test_lpips_decides_between_positions_that_are_equal_in_ssim() -> None:
    assert chosen([31.0] * 4, [0.85, 0.8995, 0.9, 0.89901], [0.01, 0.03, 0.05, 0.04]) == 2.0


def test_no_position_is_chosen_that_loses_more_than_0_15_db() -> None:
    ssim, lpips = [0.85, 0.92, 0.90, 0.89], [0.01, 0.02, 0.05, 0.06]
    assert chosen([28.0, 30.84, 31.0, 30.9], ssim, lpips) == 4.0
    assert chosen([28.0, 30.85, 31.0, 30.9], ssim, lpips) == 2.0


def test_of_equal_positions_the_one_that_changes_least_is_chosen() -> None:
    assert chosen([31.0] * 4, [0.9] * 4, [0.05] * 4) == 1.0


def test_psnr_decides_where_lpips_was_not_measured() -> None:
    assert chosen([30.9, 30.95, 31.0, 30.9], [0.9] * 4, [math.nan] * 4) == 4.0


@pytest.mark.parametrize("measured", [[], [Quality(1.0, math.inf, 0.9, 0.1)]])
def test_nothing_is_chosen_from_nothing(measured: list[Quality]) -> None:
    with pytest.raises(ValueError, match="position"):
        default_position(measured)
