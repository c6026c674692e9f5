"""Crops with the slices beside them: same dose, noise of their own, the same crops otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from training.data.batch import Batch, joined
from training.data.dataset import CropSource
from training.data.device_crops import DeviceCropSource
from training.data.manifest import load_manifest, noise_file, save_manifest, slices_file
from training.data.packing import Packer
from training.data.place import MIRRORED
from training.data.places import Places
from training.settings import DataSettings

CPU = torch.device("cpu")
PLAIN = DataSettings(
    crop=32, batch=8, lowest_dose=0.25, highest_dose=0.25, untouched_share=0, amplitude_jitter=0
)
SEEING = PLAIN.model_copy(update={"context_slices": 1})
EVERYTHING = {"sharper_share": 0.3, "smoother_share": 0.3, "coarser_share": 0.4}
SPACING_MM, GAP_AFTER = 2.5, 11
"""Position of the stacks' slices, and the last one below a gap."""


@pytest.fixture
def stacks(small_set: Path) -> Path:
    """The small set with positions, a gap, and a level for each slice, 100 HU apart."""
    manifest = load_manifest(small_set)
    for entry in manifest.series:
        entry.thickness_mm = SPACING_MM
        for number, one in enumerate(entry.slices):
            one.position_mm = SPACING_MM * (number + 3 * (number > GAP_AFTER))
            one.noise_table = [1.0 + 0.1 * number] * len(one.noise_table)
        levels = 100 * np.arange(len(entry.slices), dtype=np.int16)
        hu = np.broadcast_to(levels[:, None, None], entry.shape).copy()
        np.save(slices_file(small_set, entry.series), hu)
    save_manifest(small_set, manifest)
    return small_set


def slice_numbers(hu: torch.Tensor) -> torch.Tensor:
    """The number of the slice that each crop [batch, plane, row, column] shows."""
    return (hu.mean(dim=(2, 3)) / 100).round().long()


def batches(root: Path, data: DataSettings) -> list[Batch]:
    source = CropSource(root, data, 3, "train")
    return [source.batch(index) for index in range(6)]


def test_neighbours_change_nothing_else(stacks: Path) -> None:
    for plain, seeing in zip(batches(stacks, PLAIN), batches(stacks, SEEING), strict=True):
        assert plain.neighbours is None
        assert seeing.neighbours is not None
        assert seeing.neighbours.shape == (8, 2, 32, 32)
        for name in ("full", "low", "dose", "position", "noise_hu"):
            assert torch.equal(getattr(plain, name), getattr(seeing, name))


def test_neighbours_are_those_beside_and_the_slice_itself_at_ends_and_gaps(stacks: Path) -> None:
    places = Places(stacks, SEEING, 3, "train")
    source, seen = CropSource(stacks, SEEING, 3, "train"), set()
    for index in range(6):
        batch, drawn = source.batch(index), places.drawn(index)
        assert batch.neighbours is not None
        for place, numbers in zip(drawn, slice_numbers(batch.neighbours).tolist(), strict=True):
            own, last = place.slice_index, len(place.entry.slices) - 1
            below = own if own in (0, GAP_AFTER + 1) else own - 1
            above = own if own in (last, GAP_AFTER) else own + 1
            mirrored = place.symmetry >= MIRRORED
            assert numbers == ([above, below] if mirrored else [below, above])
            seen.add(mirrored)
    assert seen == {True, False}


def test_neighbours_have_the_same_dose_and_noise_of_their_own(stacks: Path) -> None:
    for batch in batches(stacks, SEEING):
        assert batch.neighbours is not None
        levels = 100.0 * slice_numbers(batch.neighbours)[:, :, None, None]
        noise, own = batch.neighbours - levels, batch.low - batch.full
        for crop in range(len(batch)):
            for side in range(2):
                if torch.equal(batch.neighbours[crop, side], batch.low[crop, 0]):
                    continue
                pair = torch.stack([own[crop, 0].flatten(), noise[crop, side].flatten()])
                assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.25
                np.testing.assert_allclose(noise[crop, side].std() / own[crop].std(), 1, atol=0.25)


def test_a_set_without_adjacent_slices_gives_the_slice_itself(small_set: Path) -> None:
    for batch in batches(small_set, SEEING):
        assert batch.neighbours is not None
        assert torch.equal(batch.neighbours, batch.low.expand(-1, 2, -1, -1))


@pytest.mark.parametrize("changes", [{}, EVERYTHING], ids=["plain", "everything"])
def test_the_device_makes_the_same_neighbours(stacks: Path, changes: dict[str, float]) -> None:
    for entry in load_manifest(stacks).series:
        random = np.random.default_rng(5).normal(0, 60, entry.shape)
        np.save(noise_file(stacks, entry.series, 0), random.astype(np.float16))
    data = SEEING.model_copy(update=changes)
    host = CropSource(stacks, data, 3, "train")
    device = DeviceCropSource(Packer(Places(stacks, data, 3, "train")), CPU)
    for index in range(4):
        expected, found = host.batch(index), device.batch(index)
        assert expected.neighbours is not None
        assert found.neighbours is not None
        torch.testing.assert_close(found.neighbours, expected.neighbours, rtol=0, atol=0.01)
        torch.testing.assert_close(found.low, expected.low, rtol=0, atol=0.01)


def test_real_pairs_have_real_neighbours(paired_set: Path) -> None:
    manifest = load_manifest(paired_set)
    for entry in manifest.series:
        for number, one in enumerate(entry.slices):
            one.position_mm = SPACING_MM * number
    save_manifest(paired_set, manifest)
    batch = batches(paired_set, SEEING.model_copy(update={"real_share": 1.0}))[0]
    assert batch.neighbours is not None
    assert torch.equal(batch.neighbours, torch.full((8, 2, 32, 32), 47.0))


def test_batches_with_neighbours_are_joined_and_moved(stacks: Path) -> None:
    one, other = batches(stacks, SEEING)[:2]
    both = joined([one, other]).to(CPU)
    assert both.neighbours is not None
    assert one.neighbours is not None
    assert torch.equal(both.neighbours[:8], one.neighbours)
    assert len(both) == 16
