from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from training.data.dataset import CropSource
from training.data.loading import Prefetched, held_out_batches
from training.data.manifest import load_manifest, noise_file, save_manifest, slices_file
from training.data.place import SYMMETRIES, transform, transform_position
from training.data.texture import CUTOFFS, apodise, nearest_cutoff, smoothed
from training.errors import TrainingError
from training.settings import DataSettings, Recipe

SMALL = DataSettings(crop=32, batch=4)


def test_a_batch_is_a_function_of_seed_and_number(small_set: Path) -> None:
    first, again = (CropSource(small_set, SMALL, 5, "train") for _ in range(2))
    again.batch(2)
    for name in ("full", "low", "dose", "position", "noise_hu"):
        assert torch.equal(getattr(first.batch(7), name), getattr(again.batch(7), name))
    assert not torch.equal(first.batch(7).low, first.batch(8).low)
    other = CropSource(small_set, SMALL, 6, "train")
    assert not torch.equal(first.batch(7).low, other.batch(7).low)


def test_prefetching_changes_nothing(small_set: Path) -> None:
    plain = CropSource(small_set, SMALL, 0, "train")
    with Prefetched(CropSource(small_set, SMALL, 0, "train"), threads=2) as ahead:
        for number in (0, 1, 2, 5, 3):
            assert torch.equal(ahead.batch(number).low, plain.batch(number).low)


def test_patients_count_alike_and_splits_do_not_mix(small_set: Path) -> None:
    source = CropSource(small_set, SMALL.model_copy(update={"batch": 50}), 0, "train")
    levels = Counter(
        value for number in range(6) for value in source.batch(number).full[:, 0, 0, 0].tolist()
    )
    assert set(levels) == {40.0, 41.0, 42.0}
    assert min(levels.values()) > 60  # of 300: a third each, though p1 has ten times the slices


def test_noise_variance_follows_the_dose(small_set: Path) -> None:
    data = DataSettings(crop=32, batch=2, amplitude_jitter=0, untouched_share=0, texture_jitter=0)
    batch = CropSource(small_set, data, 0, "train").batch(0)
    expected = 10.0 / batch.dose.sqrt()
    torch.testing.assert_close(batch.noise_hu, expected, rtol=1e-4, atol=0)
    assert (batch.low - batch.full).std() > 0


def test_untouched_crops_are_the_full_dose(small_set: Path) -> None:
    data = SMALL.model_copy(update={"untouched_share": 1.0})
    batch = CropSource(small_set, data, 0, "train").batch(0)
    assert torch.equal(batch.low, batch.full)
    assert torch.equal(batch.dose, torch.ones(4))


def test_real_pairs_stay_registered(paired_set: Path) -> None:
    data = SMALL.model_copy(update={"real_share": 1.0})
    batch = CropSource(paired_set, data, 0, "train").batch(0)
    assert torch.equal(batch.low, batch.full + 7)
    assert torch.equal(batch.dose, torch.full((4,), 0.25))


def test_missing_noise_and_empty_splits_are_said(small_set: Path) -> None:
    with pytest.raises(TrainingError, match="--assign test"):
        CropSource(small_set, SMALL, 0, "test")
    noise_file(small_set, "bb", 0).unlink()
    with pytest.raises(TrainingError, match="man-train simulate"):
        CropSource(small_set, SMALL, 0, "train")


def test_held_out_crops_are_the_same_in_every_fit(small_set: Path) -> None:
    recipes = [
        Recipe.model_validate(
            {"method": "x", "seed": seed, "data": {"crop": 32}, "fit": {"steps": 1}}
        )
        for seed in (0, 1)
    ]
    first, second = (held_out_batches(small_set, recipe) for recipe in recipes)
    assert torch.equal(first[0].low, second[0].low)
    assert torch.equal(first[0].dose, torch.full((12,), 0.25))


@pytest.mark.parametrize("symmetry", range(SYMMETRIES))
def test_positions_follow_the_pixels(symmetry: int) -> None:
    plane = np.zeros((40, 40), dtype=np.float32)
    plane[4:12, 20:28] = 1
    rows, columns = np.nonzero(transform(plane, symmetry))
    found = (rows.min() / 40, columns.min() / 40, (rows.max() + 1) / 40, (columns.max() + 1) / 40)
    assert transform_position((0.1, 0.5, 0.3, 0.7), symmetry) == pytest.approx(found)


def test_apodisation_orders_textures() -> None:
    plain = np.random.default_rng(0).normal(0, 1, (1, 64, 64)).astype(np.float32)
    smooth, sharp = (apodise(plain, np.array([nearest_cutoff(c)]))[0] for c in (0.6, 2.5))

    def neighbours(image: np.ndarray) -> float:
        return float(np.corrcoef(image[:, 1:].ravel(), image[:, :-1].ravel())[0, 1])

    assert neighbours(smooth) > neighbours(sharp) + 0.3
    assert CUTOFFS[nearest_cutoff(1.2)] == pytest.approx(1.2, rel=0.04)


def test_a_sharper_kernel_raises_the_noise_of_full_and_low_dose_alike(small_set: Path) -> None:
    _let_textures_differ(small_set)
    fixed = {"amplitude_jitter": 0, "untouched_share": 0, "lowest_dose": 0.25, "highest_dose": 0.25}
    plain, sharper = (
        CropSource(
            small_set, SMALL.model_copy(update={**fixed, "sharper_share": share}), 0, "train"
        )
        for share in (0.0, 1.0)
    )
    assert (plain.batch(0).full.std(dim=(1, 2, 3)) == 0).all()  # the set's slices are uniform
    crops = [sharper.batch(number) for number in range(8)]
    noise = torch.cat([b.noise_hu for b in crops])
    grainy = torch.cat([b.full.std(dim=(1, 2, 3)) > 0 for b in crops])
    assert grainy.sum() > len(grainy) / 2
    assert (noise[grainy] > 20.0).all()
    torch.testing.assert_close(noise[~grainy], torch.full_like(noise[~grainy], 20.0))
    for batch in crops:
        added = (batch.low - batch.full).flatten(1)
        pairs = [torch.stack(p) for p in zip(batch.full.flatten(1), added, strict=True)]
        assert all(abs(float(torch.corrcoef(p)[0, 1])) < 0.3 for p in pairs if p[0].std() > 0)


def _let_textures_differ(root: Path) -> None:
    """The sharper a texture, the more noise it lets through."""
    manifest = load_manifest(root)
    for entry in manifest.series:
        for one in entry.slices:
            one.noise_table = [float(2 + n) for n in range(len(one.noise_table))]
    save_manifest(root, manifest)


def test_a_coarser_crop_holds_every_second_pixel_of_full_and_low_dose(small_set: Path) -> None:
    for entry in load_manifest(small_set).series:
        ramp = np.arange(entry.shape[1], dtype=np.int16)[None, :, None]
        np.save(slices_file(small_set, entry.series), np.zeros(entry.shape, np.int16) + ramp)
    data = SMALL.model_copy(update={"coarser_share": 1.0, "untouched_share": 0, "batch": 12})
    batch = CropSource(small_set, data, 0, "train").batch(0)
    assert (batch.full.amax(dim=(1, 2, 3)) - batch.full.amin(dim=(1, 2, 3)) == 62).all()
    steps = torch.cat([batch.full.diff(dim=d).abs().amax(dim=(1, 2, 3)) for d in (2, 3)])
    assert sorted(steps.unique().tolist()) == [0.0, 2.0]
    assert ((batch.low - batch.full).std(dim=(1, 2, 3)) > 0).all()
    edges = torch.stack([batch.position.amin(dim=1), batch.position.amax(dim=1)])
    assert edges.unique().tolist() == [0.0, 1.0]  # 32 pixels now reach over all 64


def test_slices_too_small_for_coarser_crops_are_cropped_as_they_are(small_set: Path) -> None:
    plain, coarser = (
        CropSource(small_set, DataSettings(crop=48, batch=4, coarser_share=share), 0, "train")
        for share in (0.0, 1.0)
    )
    assert torch.equal(plain.batch(0).low, coarser.batch(0).low)


def test_a_smoother_kernel_has_quieter_full_and_low_doses(small_set: Path) -> None:
    _let_textures_differ(small_set)
    data = SMALL.model_copy(
        update={"smoother_share": 1.0, "untouched_share": 0, "batch": 24, "amplitude_jitter": 0}
    )
    batch = CropSource(small_set, data, 0, "train").batch(0)
    levels = batch.full.mean(dim=(1, 2, 3))
    assert (batch.full - levels[:, None, None, None]).abs().max() < 1e-3  # uniform slices stay
    full_noise = batch.noise_hu * batch.dose.sqrt()
    assert (full_noise <= 10.0 + 1e-3).all()
    assert (full_noise < 9.0).sum() > 12


def test_smoothing_gives_noise_the_smoother_texture() -> None:
    plain = np.random.default_rng(0).normal(0, 1, (1, 128, 128)).astype(np.float32)
    sharp, smooth = np.array([nearest_cutoff(1.6)]), np.array([nearest_cutoff(0.7)])
    expected = apodise(plain, smooth)
    np.testing.assert_allclose(smoothed(apodise(plain, sharp), sharp, smooth), expected, atol=0.02)
    np.testing.assert_allclose(smoothed(plain, sharp, sharp), plain, atol=1e-4)
