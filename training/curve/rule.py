"""Rule by which the default of a dial is chosen on the validation split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MAX_PSNR_LOSS_DB = 0.15
"""Maximum loss against the position with the highest PSNR."""

SSIM_TIE = 0.001
"""Positions whose SSIM is lower than the highest by at most this are equal in SSIM."""

ROUNDING = 1e-9


@dataclass(frozen=True)
class Quality:
    """Quality at one position of a dial, averaged over the kinds of cases.

    Attributes:
        value: Position of the dial; a larger one takes more noise away.
        psnr_db: Peak signal-to-noise ratio, dB.
        ssim: Structural similarity.
        lpips: LPIPS; NaN if not measured.
    """

    value: float
    psnr_db: float
    ssim: float
    lpips: float


def default_position(measured: Sequence[Quality]) -> float:
    """Return the position of a dial that becomes the default.

    Among the positions that lose at most ``MAX_PSNR_LOSS_DB`` against the highest PSNR, those with
    the highest SSIM (within ``SSIM_TIE``) remain; of these the one with the lowest LPIPS is chosen,
    and of equal ones the one that changes the image least. Where LPIPS was not measured, the one
    with the highest PSNR is chosen instead.

    Args:
        measured: Positions on the same cases; at least one.

    Raises:
        ValueError: There is no position, or PSNR or SSIM is not finite.

    Example:
        >>> default_position([Quality(2, 31.0, 0.90, 0.06), Quality(4, 31.1, 0.90, 0.05)])
        4
    """
    if not measured:
        raise ValueError("there is no position to choose from")
    if not all(math.isfinite(one.psnr_db) and math.isfinite(one.ssim) for one in measured):
        raise ValueError("PSNR and SSIM of every position must be finite")
    highest_psnr = max(one.psnr_db for one in measured)
    near = [one for one in measured if one.psnr_db >= highest_psnr - MAX_PSNR_LOSS_DB - ROUNDING]
    highest_ssim = max(one.ssim for one in near)
    equal = [one for one in near if one.ssim >= highest_ssim - SSIM_TIE - ROUNDING]
    if all(math.isfinite(one.lpips) for one in equal):
        return min(equal, key=lambda one: (one.lpips, one.value)).value
    return min(equal, key=lambda one: (-one.psnr_db, one.value)).value
