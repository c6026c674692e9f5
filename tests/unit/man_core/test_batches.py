"""A slice gets the same bits in whatever company, on a CPU and in the fixed batches of a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from man_core import Condition, Denoiser, ModelCard, ModelError, Stopped, Volume, denoise_volume
from man_core.batches import Batch, BatchWork, fixed_shape_batches
from man_core.denoisers.identity import IdentityDenoiser
from man_core.denoisers.man import ManDenoiser
from man_core.denoisers.single_pass import SinglePassDenoiser
from man_core.nets.autoencoder import AutoencoderConfig
from man_core.nets.man import ManConfig, ManNetwork
from man_core.nets.qae import Qae, QaeConfig
from man_core.nets.redcnn import RedCnn, RedCnnConfig
from man_core.nets.unet import UnetConfig

CPU = torch.device("cpu")
CARD = ModelCard(name="tiny", version="0", method="man", summary="tiny", steps=2)
TINY = ManConfig(
    AutoencoderConfig(latent=4, stem=2, channels=(8, 8)),
    UnetConfig(latent=4, channels=(8, 16), attention=(1,), context=16, context_width=8, time=16),
)
SLICES = 5


def randomised(network: torch.nn.Module) -> None:
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)


def tiny_man() -> Denoiser:
    network = ManNetwork(TINY)
    randomised(network)
    return ManDenoiser(CARD, network, CPU, 2)


def tiny_qae() -> Denoiser:
    network = Qae(QaeConfig(channels=4))
    randomised(network)
    return SinglePassDenoiser(CARD, network, CPU)


def tiny_red_cnn() -> Denoiser:
    network = RedCnn(RedCnnConfig(channels=4))
    randomised(network)
    return SinglePassDenoiser(CARD, network, CPU)


DENOISERS: dict[str, Callable[[], Denoiser]] = {
    "identity": lambda: IdentityDenoiser(CARD),
    "man": tiny_man,
    "qae": tiny_qae,
    "redcnn": tiny_red_cnn,
}


def volume_of(hu: NDArray[np.float32]) -> Volume:
    return Volume(hu, (3.0, 0.7, 0.7), np.diag([3.0, 0.7, 0.7, 1.0]))


def noisy(slices: int = SLICES) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(40, 60, (slices, 32, 40)).astype(np.float32)


def denoised(denoiser: Denoiser, hu: NDArray[np.float32]) -> NDArray[np.float32]:
    result, _ = denoise_volume(volume_of(hu), denoiser, Condition(), seed=7, limits=None)
    return result.hu


@pytest.fixture(scope="module")
def threads() -> Iterator[None]:
    """Two threads, so that a slice can come alone, in a whole batch and in the last one."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", DENOISERS)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(chosen=st.lists(st.integers(0, SLICES - 1), min_size=1, max_size=SLICES, unique=True))
def test_any_slices_in_any_order_get_the_bits_of_the_whole_series(
    name: str, chosen: list[int]
) -> None:
    denoiser = DENOISERS[name]()
    whole = denoised(denoiser, noisy())
    assert denoised(denoiser, noisy()[chosen]).tobytes() == whole[chosen].tobytes()


class ByCompany:
    """Adds as many HU as the batch has slices, so that another shape shows.

    Args:
        full: Numbers of the calls, from 0, in which the device has no memory left.
        room: Maximum number of slices for which it ever has memory.
    """

    info, device, steps = CARD, "cpu", 0

    def __init__(self, full: Sequence[int] = (), room: int = 99) -> None:
        self.full, self.room = full, room
        self.seen: list[torch.Tensor] = []

    def denoise(
        self,
        hu: torch.Tensor,
        condition: Condition,
        generator: torch.Generator,
        on_step: object = None,
    ) -> torch.Tensor:
        self.seen.append(hu.clone())
        if len(hu) > self.room or len(self.seen) - 1 in self.full:
            raise torch.OutOfMemoryError("device is full")
        return hu + len(hu)

    def slices_at_once(self, rows: int, columns: int) -> int:
        return 4


def lane(
    denoiser: Denoiser, hu: NDArray[np.float32], *, strength: float = 1.0, step: int = 4
) -> Iterator[Batch]:
    work = BatchWork(denoiser, Condition(), 1, strength)
    return fixed_shape_batches(hu, work, CPU, step)


def collected(batches: Iterator[Batch], like: NDArray[np.float32]) -> NDArray[np.float32]:
    """Put results in their places, each slice once and in order."""
    result, done = np.full_like(like, np.nan), 0
    for part, hu in batches:
        assert part.start == done
        result[part], done = hu, part.stop
    assert done == len(like)
    return result


@pytest.mark.parametrize("slices", [1, 3, 4, 5, 8, 11])
def test_every_batch_has_the_same_shape_and_every_slice_its_own_result(slices: int) -> None:
    hu, denoiser = noisy(slices), ByCompany()
    assert np.array_equal(collected(lane(denoiser, hu), hu), hu + np.float32(4))
    assert {len(batch) for batch in denoiser.seen} == {4}
    assert torch.equal(denoiser.seen[-1][-1], torch.from_numpy(hu[-1]))


@settings(max_examples=30, deadline=None)
@given(chosen=st.lists(st.integers(0, 8), min_size=1, max_size=9, unique=True))
def test_late_slices_in_fixed_batches_get_the_bits_of_the_whole_series(chosen: list[int]) -> None:
    hu = noisy(9)
    whole = collected(lane(ByCompany(), hu), hu)
    late = collected(lane(ByCompany(), hu[chosen]), hu[chosen])
    assert late.tobytes() == whole[chosen].tobytes()


@settings(max_examples=30, deadline=None)
@given(strength=st.floats(0.0, 1.0), seed=st.integers(0, 99))
def test_blending_has_the_bits_of_float32(strength: float, seed: int) -> None:
    hu = np.random.default_rng(seed).normal(0, 500, (2, 4, 4)).astype(np.float32)
    result = hu + np.float32(4)
    expected = result if strength == 1.0 else hu + np.float32(strength) * (result - hu)
    blended = collected(lane(ByCompany(), hu, strength=strength), hu)
    assert blended.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "full", [(0,), (1,)], ids=["in the first batch", "while the first is on its way"]
)
def test_a_series_that_does_not_fit_begins_again_with_half_the_shape(full: tuple[int]) -> None:
    hu, denoiser = noisy(11), ByCompany(full)
    assert np.array_equal(collected(lane(denoiser, hu), hu), hu + np.float32(2))
    assert [len(batch) for batch in denoiser.seen] == [4] * (full[0] + 1) + [2] * 6


def test_the_shape_is_halved_until_it_fits() -> None:
    hu = noisy(3)
    assert np.array_equal(collected(lane(ByCompany(room=1), hu), hu), hu + np.float32(1))


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("full", [(2,), (4,), (2, 5)])
def test_what_was_delivered_stays_and_the_rest_gets_the_same_bits(
    full: tuple[int, ...], step: int
) -> None:
    hu, denoiser = noisy(12), ByCompany(full)
    assert np.array_equal(collected(lane(denoiser, hu, step=step), hu), hu + np.float32(step))
    assert {len(batch) for batch in denoiser.seen} == {step}


def test_a_lack_of_memory_that_lasts_is_told_after_what_was_delivered() -> None:
    batches = lane(ByCompany(full=range(2, 99)), noisy(12))
    assert next(batches)[0] == slice(0, 4)
    with pytest.raises(torch.OutOfMemoryError):
        next(batches)


def test_one_slice_that_does_not_fit_is_told() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        list(lane(ByCompany(room=0), noisy(2)))


def test_a_value_that_is_not_finite_stops_the_series_at_its_batch() -> None:
    hu = noisy(8)
    hu[5, 3, 3] = np.inf
    batches = lane(ByCompany(), hu)
    assert next(batches)[0] == slice(0, 4)
    with pytest.raises(ModelError, match="not finite"):
        next(batches)


def test_a_stop_is_obeyed_before_the_next_batch() -> None:
    denoiser = ByCompany()
    work = BatchWork(denoiser, Condition(), 1)
    with pytest.raises(Stopped):
        list(fixed_shape_batches(noisy(8), work, CPU, 4, lambda: bool(denoiser.seen)))
    assert len(denoiser.seen) == 1


def test_a_series_can_be_left_half_way() -> None:
    denoiser = ByCompany()
    batches = lane(denoiser, noisy(12))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert len(denoiser.seen) == 2
