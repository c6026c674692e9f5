"""The spread over seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from man_core import Condition, ModelCard, Volume, load_denoiser, spread_over_seeds

HU = np.full((2, 64, 64), 50.0, np.float32)
HU[:, :, 40:] = -900.0
VOLUME = Volume(HU, (3.0, 0.7, 0.7), np.diag([3.0, 0.7, 0.7, 1.0]))


class Guessing:
    """Adds noise that depends on the seed: 6 HU in soft tissue, 30 HU elsewhere."""

    info = ModelCard(name="guessing", version="1", method="guessing", summary="guesses")
    device, steps = "cpu", 1

    def denoise(
        self,
        hu: torch.Tensor,
        condition: Condition,
        generator: torch.Generator,
        on_step: object = None,
    ) -> torch.Tensor:
        level = torch.where(hu > -100.0, 6.0, 30.0)
        return hu + level * torch.randn(hu.shape, generator=generator)

    def slices_at_once(self, rows: int, columns: int) -> int:
        return 2


def test_the_spread_is_that_of_the_results() -> None:
    spread, summary = spread_over_seeds(VOLUME, Guessing(), Condition(), seeds=range(40))
    assert spread.hu[:, :, 45:].mean() == pytest.approx(30.0, rel=0.05)
    assert spread.spacing_mm == VOLUME.spacing_mm
    assert summary.seeds == 40
    assert summary.median_hu == pytest.approx(6.0, rel=0.05)
    assert 6.0 < (summary.p99_hu or 0.0) < 9.0


def test_strength_scales_the_spread() -> None:
    _, summary = spread_over_seeds(VOLUME, Guessing(), Condition(), seeds=range(40), strength=0.5)
    assert summary.median_hu == pytest.approx(3.0, rel=0.05)


def test_what_does_not_depend_on_the_seed_has_no_spread() -> None:
    spread, summary = spread_over_seeds(
        VOLUME, load_denoiser("identity"), Condition(), seeds=(1, 2)
    )
    assert not spread.hu.any()
    assert (summary.median_hu, summary.p99_hu) == (0.0, 0.0)


def test_without_soft_tissue_there_is_no_summary() -> None:
    air = VOLUME.with_hu(np.full_like(HU, -1000.0))
    _, summary = spread_over_seeds(air, Guessing(), Condition(), seeds=(1, 2))
    assert (summary.median_hu, summary.p99_hu) == (None, None)


def test_one_seed_has_no_spread() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        spread_over_seeds(VOLUME, Guessing(), Condition(), seeds=(3, 3))
