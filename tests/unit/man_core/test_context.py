"""Neighbouring slices as a condition: which count, what a model is shown, and what stays as it was.

Where a model sees them, a slice's result depends on it and on its neighbours, on nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from man_core import (
    Condition,
    Denoiser,
    ModelCard,
    ModelError,
    Volume,
    denoise_volume,
    load_denoiser,
    neighbours_of,
    spread_over_seeds,
)
from man_core.batches import BatchWork, fixed_shape_batches
from man_core.beyond_padding import ContinuedSlices, shown_slices
from man_core.context import Neighbours, alone
from man_core.denoisers.man import ManDenoiser
from man_core.nets.autoencoder import AutoencoderConfig
from man_core.nets.detail import DetailConfig
from man_core.nets.man import ManConfig, ManNetwork
from man_core.nets.unet import UnetConfig
from man_core.slices import ArraySlices

CPU = torch.device("cpu")
CARD = ModelCard(name="tiny", version="0", method="man", summary="tiny", steps=2)
PLAIN = ManConfig(
    AutoencoderConfig(latent=4, stem=2, channels=(8, 8)),
    UnetConfig(latent=4, channels=(8, 16), attention=(1,), context=16, context_width=8, time=16),
    detail=DetailConfig(channels=4, blocks=1),
)
SEEING = replace(PLAIN, context_slices=1)
SLICES = 6


def noisy(slices: int = SLICES) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(40, 60, (slices, 32, 40)).astype(np.float32)


def volume_of(hu: NDArray[np.float32]) -> Volume:
    return Volume(hu, (3.0, 0.7, 0.7), np.diag([3.0, 0.7, 0.7, 1.0]))


def random_network(config: ManConfig) -> ManNetwork:
    torch.manual_seed(0)
    network = ManNetwork(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return network


def seeing_man() -> ManDenoiser:
    return ManDenoiser(replace(CARD, context_slices=1), random_network(SEEING), CPU, 2)


class Mean:
    """The mean of each slice and its neighbours, and what it was shown."""

    info, device, steps = replace(CARD, context_slices=1), "cpu", 0

    def __init__(self, at_once: int = 4) -> None:
        self.at_once = at_once
        self.shown: list[torch.Tensor] = []

    def denoise(
        self,
        hu: torch.Tensor,
        condition: Condition,
        generator: torch.Generator,
        on_step: object = None,
    ) -> torch.Tensor:
        self.shown.append(hu.clone())
        return hu.mean(dim=1)

    def slices_at_once(self, rows: int, columns: int) -> int:
        return self.at_once


def denoised(
    denoiser: Denoiser, hu: NDArray[np.float32], neighbours: Neighbours | None = None
) -> NDArray[np.float32]:
    result, _ = denoise_volume(
        volume_of(hu), denoiser, Condition(), seed=7, limits=None, neighbours=neighbours
    )
    return result.hu


@pytest.mark.parametrize(
    ("positions", "thickness", "expected"),
    [
        ([], 2.5, ()),
        ([4.0], 2.5, ((0, 0),)),
        ([0, 2.5, 5], 2.5, ((0, 1), (0, 2), (1, 2))),
        ([5, 2.5, 0], 2.5, ((0, 1), (0, 2), (1, 2))),
        ([0, 2.5, 7.5, 10, 12.5], 2.5, ((0, 1), (0, 1), (2, 3), (2, 4), (3, 4))),
        ([0, 2.5, 5, 7.7, 10.5], None, ((0, 1), (0, 2), (1, 3), (2, 3), (4, 4))),
        ([0, 15, 30], 2.5, ((0, 0), (1, 1), (2, 2))),
        ([0, 15, 30], None, ((0, 1), (0, 2), (1, 2))),
        ([0, 0, 0], 2.5, ((0, 0), (1, 1), (2, 2))),
    ],
    ids=["none", "one", "up", "down", "gap", "ten per cent", "far", "unknown", "no positions"],
)
def test_a_neighbour_lies_at_the_usual_distance_and_touches(
    positions: list[float], thickness: float | None, expected: Neighbours
) -> None:
    assert neighbours_of(positions, thickness) == expected


def test_each_slice_is_shown_with_those_beside_it_and_the_ends_with_themselves() -> None:
    hu = noisy()
    expected = np.stack([hu, hu[[0, 0, 1, 2, 3, 4]], hu[[1, 2, 3, 4, 5, 5]]]).mean(axis=0)
    np.testing.assert_allclose(denoised(Mean(), hu), expected, rtol=1e-5, atol=1e-3)
    assert np.array_equal(denoised(Mean(), hu, alone(SLICES)), denoised(Mean(1), hu, alone(SLICES)))
    np.testing.assert_allclose(denoised(Mean(), hu, alone(SLICES)), hu, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("at_once", [1, 2, 4, 7])
def test_a_slice_gets_the_same_bits_in_whatever_batch(at_once: int) -> None:
    hu, whole = noisy(), denoised(Mean(SLICES), noisy())
    assert denoised(Mean(at_once), hu).tobytes() == whole.tobytes()
    source = shown_slices(ArraySlices(hu), context_slices=1)
    work = BatchWork(Mean(), Condition(), 1)
    lanes = fixed_shape_batches(source, work, CPU, at_once)
    assert b"".join(part.tobytes() for _, part in lanes) == whole.tobytes()


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_the_network_gives_a_slice_the_same_bits_in_whatever_batch() -> None:
    denoiser, hu = seeing_man(), noisy()
    torch.set_num_threads(2)
    two = denoised(denoiser, hu)
    torch.set_num_threads(1)
    assert denoised(denoiser, hu).tobytes() == two.tobytes()
    assert not np.array_equal(denoised(denoiser, hu, alone(SLICES)), two)


@given(change=st.integers(0, SLICES - 1))
@settings(max_examples=6, deadline=None)
def test_a_slice_depends_on_itself_and_on_its_neighbours_alone(change: int) -> None:
    denoiser, hu = seeing_man(), noisy()
    other = hu.copy()
    other[change] = other[change][::-1]
    same = [
        np.array_equal(*pair)
        for pair in zip(*(denoised(denoiser, x) for x in (hu, other)), strict=True)
    ]
    assert [abs(place - change) > 1 for place in range(SLICES)] == same


def test_a_batch_reads_itself_and_two_slices() -> None:
    class Counting(ArraySlices):
        read: list[int]

        def __getitem__(self, part: slice) -> NDArray[np.float32]:
            self.read += range(*part.indices(len(self)))
            return super().__getitem__(part)

    source = Counting(noisy(9))
    shown = shown_slices(source, context_slices=1)
    for first in (0, 3, 6):
        source.read = []
        assert shown[first : first + 3].shape == (3, 3, 32, 40)
        assert sorted(source.read) == list(range(max(first - 1, 0), min(first + 4, 9)))


def test_neighbours_are_shown_continued_into_padding_as_slices_are() -> None:
    hu = noisy() + np.where(np.arange(40) < 20, np.float32(1000), np.float32(0))
    padding = np.broadcast_to(np.arange(40) < 8, hu.shape).copy()
    hu[padding] = -1024.0
    source, denoiser = ArraySlices(hu, padding), Mean(SLICES)
    denoise_volume(volume_of(hu), denoiser, Condition(), seed=1, padding=padding, limits=None)
    (shown,) = denoiser.shown
    assert np.array_equal(shown[:, 0], ContinuedSlices(source)[0:SLICES])
    assert not np.array_equal(shown[:, 0], hu)
    assert torch.equal(shown[1:, 1], shown[:-1, 0])
    assert torch.equal(shown[:-1, 2], shown[1:, 0])


def test_the_spread_over_seeds_sees_neighbours_too() -> None:
    spread, summary = spread_over_seeds(volume_of(noisy()), Mean(), Condition(), seeds=(1, 2))
    assert summary.seeds == 2
    assert not spread.hu.any()


def test_strength_blends_with_the_slice_itself() -> None:
    hu = noisy()
    half, _ = denoise_volume(volume_of(hu), Mean(), Condition(), seed=1, strength=0.5, limits=None)
    np.testing.assert_allclose(half.hu, (hu + denoised(Mean(), hu)) / 2, rtol=1e-5, atol=1e-3)


def test_weights_without_neighbours_start_a_network_that_sees_them_with_the_same_output() -> None:
    plain, seeing = random_network(PLAIN), ManNetwork(SEEING)
    missing, unexpected = seeing.load_state_dict(plain.state_dict(), strict=False)
    assert (tuple(missing), unexpected) == (seeing.context_parameters(), [])
    before = denoised(ManDenoiser(CARD, plain, CPU, 2), noisy())
    after = denoised(ManDenoiser(replace(CARD, context_slices=1), seeing, CPU, 2), noisy())
    assert before.tobytes() == after.tobytes()


def test_a_network_without_neighbours_has_the_parameters_that_it_had() -> None:
    plain, seeing = ManNetwork(PLAIN), ManNetwork(SEEING)
    assert plain.context_parameters() == ()
    assert set(plain.state_dict()) == set(seeing.state_dict()) - set(seeing.context_parameters())
    assert ManConfig.from_dict({**PLAIN.to_dict()}) == PLAIN


def test_without_neighbours_given_a_slice_takes_their_place() -> None:
    denoiser, hu = seeing_man(), torch.from_numpy(noisy(2))
    given_none = denoiser.denoise(hu, Condition(), torch.Generator().manual_seed(7))
    tripled = hu[:, None].repeat(1, 3, 1, 1)
    given_itself = denoiser.denoise(tripled, Condition(), torch.Generator().manual_seed(7))
    assert torch.equal(given_none, given_itself)
    with pytest.raises(ValueError, match="with 2 neighbours, not 1"):
        denoiser.denoise(tripled[:, :2], Condition(), torch.Generator())


@pytest.mark.parametrize("slices", [2, -1, True, "1", 1.0, None])
def test_a_card_with_an_impossible_number_is_refused(slices: object) -> None:
    fields = json.loads(CARD.to_json()) | {"context_slices": slices}
    with pytest.raises(ValueError, match="context_slices must be 0 or 1"):
        ModelCard.from_json(json.dumps(fields))


def test_a_card_from_before_says_none() -> None:
    fields = json.loads(CARD.to_json())
    del fields["context_slices"]
    card = ModelCard.from_json(json.dumps(fields))
    assert card == CARD
    assert card.digest == CARD.digest


@pytest.mark.parametrize(("config", "slices"), [(PLAIN, 1), (SEEING, 0)])
def test_card_and_weights_must_agree(config: ManConfig, slices: int) -> None:
    with pytest.raises(ModelError, match="differ on context slices"):
        ManDenoiser(replace(CARD, context_slices=slices), ManNetwork(config), CPU, 2)


def test_a_method_that_sees_no_neighbours_is_refused(tmp_path: Path) -> None:
    card = replace(CARD, method="redcnn", context_slices=1)
    (tmp_path / "x.json").write_text(card.to_json(), encoding="utf-8")
    with pytest.raises(ModelError, match="cannot see neighbouring slices"):
        load_denoiser(str(tmp_path / "x.json"))
