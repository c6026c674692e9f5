"""Crops made on a device are those of the CPU; here the device is the CPU itself."""

from __future__ import annotations

import multiprocessing
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from training.data.batch import Batch
from training.data.dataset import CropSource
from training.data.device_crops import DeviceCropSource
from training.data.loading import Ahead, device_batches
from training.data.manifest import load_manifest, noise_file, save_manifest, slices_file
from training.data.packing import Packer, packed_by_process, prepare_process
from training.data.places import Places
from training.data.processes import process_pool
from training.settings import DataSettings

CPU = torch.device("cpu")
TOLERANCE_HU = 0.001
SEED, BATCHES = 3, 4

EVERYTHING = {
    "sharper_share": 0.3,
    "smoother_share": 0.3,
    "coarser_share": 0.4,
    "any_texture_share": 0.3,
    "untouched_share": 0.1,
}


def make_real(root: Path) -> None:
    """Give each series anatomy, strong noise of its own, tables that differ, and a second copy."""
    manifest = load_manifest(root)
    random = np.random.default_rng(1)
    for entry in manifest.series:
        hu = random.integers(-1024, 1500, entry.shape).astype(np.int16)
        np.save(slices_file(root, entry.series), hu)
        for copy in range(2):
            noise = random.normal(0, 60, entry.shape).astype(np.float16)
            np.save(noise_file(root, entry.series, copy), noise)
        for one in entry.slices:
            one.noise_table = [float(20 + 9 * n) for n in range(len(one.noise_table))]
    save_manifest(root, manifest)


def shrink(root: Path, name: str, rows: int, columns: int) -> None:
    """Make the slices of one series smaller and oblong, as a set of several scanners has them."""
    manifest = load_manifest(root)
    entry = next(e for e in manifest.series if e.series == name)
    entry.shape = (entry.shape[0], rows, columns)
    for path in (slices_file(root, name), *(noise_file(root, name, copy) for copy in range(2))):
        np.save(path, np.load(path)[:, :rows, :columns])
    save_manifest(root, manifest)


def shapes(batch: Batch) -> dict[str, torch.Size | None]:
    """The shape of each part of a batch; None where it has none, as without neighbours."""
    parts = {field.name: getattr(batch, field.name) for field in fields(Batch)}
    return {name: None if part is None else part.shape for name, part in parts.items()}


def compare(root: Path, data: DataSettings) -> list[Batch]:
    host = CropSource(root, data, SEED, "train")
    device = DeviceCropSource(Packer(Places(root, data, SEED, "train")), CPU)
    batches = []
    for index in range(BATCHES):
        expected, found = host.batch(index), device.batch(index)
        for name in ("full", "low"):
            apart = (getattr(expected, name) - getattr(found, name)).abs().max()
            assert apart <= TOLERANCE_HU, (name, index)
        for name in ("dose", "position", "noise_hu"):
            assert torch.equal(getattr(expected, name), getattr(found, name))
        assert shapes(found) == shapes(expected)
        batches.append(expected)
    return batches


@pytest.mark.parametrize("changes", [{}, EVERYTHING], ids=["plain", "everything"])
def test_a_device_makes_the_batches_of_the_cpu(small_set: Path, changes: dict[str, Any]) -> None:
    make_real(small_set)
    shrink(small_set, "bb", 40, 56)
    batches = compare(small_set, DataSettings(crop=32, batch=12, **changes))
    apart = [float((batch.low - batch.full).std()) for batch in batches]
    assert min(apart) > 1000 * TOLERANCE_HU  # else nothing was compared


def test_a_device_makes_the_real_pairs_of_the_cpu(paired_set: Path) -> None:
    make_real(paired_set)
    batches = compare(paired_set, DataSettings(crop=32, batch=12, real_share=0.5))
    doses = torch.cat([batch.dose for batch in batches])
    assert 0 < int((doses == 0.25).sum()) < len(doses)


def test_untouched_crops_are_the_full_dose_on_a_device_too(small_set: Path) -> None:
    make_real(small_set)
    data = DataSettings(crop=32, batch=4, untouched_share=1.0)
    batch = DeviceCropSource(Packer(Places(small_set, data, 0, "train")), CPU).batch(0)
    assert torch.equal(batch.low, batch.full)


def test_processes_draw_what_this_one_draws(small_set: Path) -> None:
    described = (small_set, DataSettings(crop=32, batch=4, coarser_share=0.5), SEED, "train")
    packer = Packer(Places(*described))
    with process_pool(1, prepare_process, *described) as pool:
        draw = Ahead(packed_by_process, pool, 2)
        for index in (0, 1, 5):
            found, expected = draw(index), packer.packed(index)
            assert found.groups == expected.groups
            assert np.array_equal(found.integers, expected.integers)
            assert np.array_equal(found.reals, expected.reals)


def test_a_fit_finishes_its_step_when_all_its_processes_get_a_sigterm(small_set: Path) -> None:
    packer = Packer(Places(small_set, DataSettings(crop=32, batch=4), SEED, "train"))
    alone = DeviceCropSource(packer, CPU)
    with device_batches(packer, CPU, processes=1) as source:
        assert torch.equal(source.batch(0).low, alone.batch(0).low)
        for process in multiprocessing.active_children():
            process.terminate()
            process.join()
        for index in range(1, 40):  # more than were drawn in advance
            assert torch.equal(source.batch(index).low, alone.batch(index).low)
