"""The spread over seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.denoisers import SeededDenoiser

from man_core import (
    Condition,
    ModelCard,
    ModelError,
    Stopped,
    Volume,
    denoise_volume,
    load_denoiser,
    phantom_series,
    spread_over_seeds,
    stream_spread_over_seeds,
)
from man_core.noise import soft_tissue

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


class Watched:
    """A series in memory that notes which slices are asked for, and in which order."""

    def __init__(self, hu: NDArray[np.float32]) -> None:
        self.hu, self.asked = hu, list[int]()

    @property
    def shape(self) -> tuple[int, int, int]:
        slices, rows, columns = self.hu.shape
        return slices, rows, columns

    def __len__(self) -> int:
        return len(self.hu)

    def __getitem__(self, part: slice) -> NDArray[np.float32]:
        self.asked += range(*part.indices(len(self)))
        return self.hu[part]

    def padding(self, part: slice) -> None:
        return None


def phantom(slices: int = 5) -> Volume:
    return phantom_series("abdomen", slices=slices, size=64)


def test_the_spread_is_the_standard_deviation_of_the_results_of_all_seeds() -> None:
    volume, seeds = phantom(), range(3, 9)
    spread, _ = spread_over_seeds(volume, SeededDenoiser(), Condition(), seeds=seeds, strength=0.5)
    results = [
        denoise_volume(volume, SeededDenoiser(), Condition(), seed=seed, strength=0.5, limits=None)[
            0
        ].hu
        for seed in seeds
    ]
    expected = np.std(np.array(results, np.float64), axis=0, ddof=1)
    np.testing.assert_allclose(spread.hu, expected, rtol=1e-3, atol=1e-4)


def test_the_summary_describes_all_voxels_of_soft_tissue() -> None:
    volume = phantom()
    spread, summary = spread_over_seeds(volume, SeededDenoiser(), Condition(), seeds=range(4))
    median, p99 = np.percentile(spread.hu[soft_tissue(volume.hu)], (50.0, 99.0))
    assert p99 > 2 * median > 0
    assert summary.median_hu == pytest.approx(median, rel=1 / 4096)
    assert summary.p99_hu == pytest.approx(p99, rel=1 / 4096)


def test_the_spread_does_not_depend_on_the_batches() -> None:
    found = [
        spread_over_seeds(phantom(), SeededDenoiser(at_once), Condition(), seeds=range(3))
        for at_once in (1, 2, 5)
    ]
    for spread, summary in found[1:]:
        np.testing.assert_array_equal(spread.hu, found[0][0].hu)
        assert summary == found[0][1]


def test_slices_pass_once_and_each_batch_is_finished_before_the_next() -> None:
    source, done = Watched(phantom().hu), list[tuple[int, int]]()

    def note(first: int, spread: NDArray[np.float32]) -> None:
        assert max(source.asked) < first + len(spread)
        done.append((first, len(spread)))

    stream_spread_over_seeds(source, SeededDenoiser(2), Condition(), seeds=range(3), on_spread=note)
    assert done == [(0, 2), (2, 2), (4, 1)]


def test_a_stop_is_obeyed_before_the_next_seed() -> None:
    denoiser = SeededDenoiser()
    with pytest.raises(Stopped):
        spread_over_seeds(
            phantom(), denoiser, Condition(), seeds=range(8), should_stop=lambda: denoiser.calls > 2
        )
    assert denoiser.calls == 3


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_result_that_is_not_finite_is_an_error(broken: float) -> None:
    class Broken(SeededDenoiser):
        def denoise(
            self,
            hu: torch.Tensor,
            condition: Condition,
            generator: torch.Generator,
            on_step: object = None,
        ) -> torch.Tensor:
            result = super().denoise(hu, condition, generator)
            result[0, 0, 0] = broken if self.calls > 3 else 0.0
            return result

    with pytest.raises(ModelError, match="not finite"):
        spread_over_seeds(phantom(2), Broken(), Condition(), seeds=range(5))


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_out_of_range_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match="within 0 to 1"):
        spread_over_seeds(VOLUME, SeededDenoiser(), Condition(), seeds=(1, 2), strength=strength)
