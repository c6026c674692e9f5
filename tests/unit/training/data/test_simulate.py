"""Simulated noise: the same from one process or several, continued where it stopped."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch

from training.data.manifest import (
    Manifest,
    load_manifest,
    noise_file,
    save_manifest,
    slices_file,
)
from training.data.simulate import simulate
from training.errors import TrainingError


@pytest.fixture
def bare_set(small_set: Path) -> Path:
    """The small set before its simulation."""
    shutil.rmtree(small_set / "noise")
    manifest = load_manifest(small_set)
    for entry in manifest.series:
        for one in entry.slices:
            one.noise_table = []
    save_manifest(small_set, Manifest(series=manifest.series[1:]))  # the short ones
    return small_set


@pytest.fixture
def two_threads() -> Iterator[None]:
    """More threads than each process has: others would sum in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def images(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "noise").iterdir()}


def enlarge(root: Path, side: int) -> None:
    """Leave one slice with so many pixels that torch divides its sums among its threads."""
    entry = load_manifest(root).series[0]
    entry.shape = (1, side, side)
    del entry.slices[1:]
    noise = np.random.default_rng(0).normal(40, 12, entry.shape)
    np.save(slices_file(root, entry.series), noise.astype(np.int16))
    save_manifest(root, Manifest(series=[entry]))


def test_one_process_sums_as_several_do(bare_set: Path, tmp_path: Path, two_threads: None) -> None:
    enlarge(bare_set, 192)
    other = shutil.copytree(bare_set, tmp_path / "other")
    simulate(bare_set)
    assert torch.get_num_threads() == 2
    simulate(other, processes=2)
    assert images(bare_set) == images(other)
    assert load_manifest(bare_set) == load_manifest(other)


@contextmanager
def when_a_process_reads(pixels: Path, act: Callable[[], None]) -> Iterator[None]:
    """Act while a process waits for the pixels of a series, which come after the block."""
    held = pixels.read_bytes()
    pixels.unlink()
    os.mkfifo(pixels)
    over = Event()

    def hold() -> None:
        with pixels.open("wb"):  # opened as soon as a process reads it
            act()
            over.wait()

    with ThreadPoolExecutor(1) as thread:
        acted = thread.submit(hold)
        yield
        over.set()
        acted.result()
    pixels.unlink()
    pixels.write_bytes(held)


def kill_processes() -> None:
    for process in multiprocessing.active_children():
        process.kill()


def test_a_process_that_is_killed_is_one_sentence(bare_set: Path) -> None:
    with (
        when_a_process_reads(slices_file(bare_set, "bb"), kill_processes),
        pytest.raises(TrainingError, match="run the same command again"),
    ):
        simulate(bare_set, processes=2)
    assert simulate(bare_set) > 0
    assert all(s.noise_table for e in load_manifest(bare_set).series for s in e.slices)


def test_an_interrupted_simulation_does_not_wait_for_its_processes(bare_set: Path) -> None:
    with when_a_process_reads(
        slices_file(bare_set, "bb"), lambda: os.kill(os.getpid(), signal.SIGINT)
    ):
        with pytest.raises(KeyboardInterrupt):
            simulate(bare_set, processes=2)
        assert multiprocessing.active_children() == []


def test_several_processes_make_the_noise_of_one_and_go_on(bare_set: Path, tmp_path: Path) -> None:
    other = shutil.copytree(bare_set, tmp_path / "other")
    slices = sum(len(entry.slices) for entry in load_manifest(bare_set).series)
    assert simulate(bare_set, copies=2) == 2 * slices
    noise_file(bare_set, "bb", 1).unlink()
    assert simulate(bare_set, copies=2) == 2
    assert simulate(other, copies=2, processes=2) == 2 * slices
    assert images(bare_set) == images(other)
    assert load_manifest(bare_set) == load_manifest(other)
    files = [noise_file(other, "bb", copy) for copy in range(2)]
    first, second = (np.load(path).astype(np.float32) for path in files)
    assert float(np.std(first)) > 1
    assert abs(float(np.corrcoef(first.ravel(), second.ravel())[0, 1])) < 0.05


def test_a_device_that_is_not_there_is_said(bare_set: Path) -> None:
    with pytest.raises(TrainingError, match="tpu"):
        simulate(bare_set, device="tpu")
