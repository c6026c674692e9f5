"""The shape of a batch follows from the measured memory of one slice and the size of the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from man_core import ModelCard
from man_core.batch_shape import (
    MAX_BATCH_PIXELS,
    MAX_MEMORY_SHARE,
    MEMORY_MARGIN,
    PROBE_PIXELS,
    BatchShape,
    device_memory,
)
from man_core.denoisers.man import ManDenoiser
from man_core.denoisers.single_pass import SinglePassDenoiser
from man_core.device import max_parallel_slices
from man_core.nets.autoencoder import AutoencoderConfig
from man_core.nets.man import ManConfig, ManNetwork
from man_core.nets.redcnn import RedCnn, RedCnnConfig
from man_core.nets.unet import UnetConfig

GIB = 1 << 30
CPU = torch.device("cpu")
CARD = ModelCard(name="tiny", version="0", method="man", summary="tiny", steps=1)
TINY = ManConfig(
    AutoencoderConfig(latent=4, stem=2, channels=(8, 8)),
    UnetConfig(latent=4, channels=(8, 16), attention=(1,), context=16, context_width=8, time=16),
)


class Measured:
    """Memory of a device on which every call takes the same."""

    def __init__(self, total_bytes: int, peak_bytes: int) -> None:
        self.total_bytes, self._peak = total_bytes, peak_bytes
        self.calls: list[object] = []

    def peak_bytes(self, run: Callable[[], object]) -> int:
        self.calls.append(run())
        return self._peak


def test_a_slice_of_160_bytes_a_pixel_gets_the_largest_batch_on_any_common_gpu() -> None:
    for gib in (4, 8, 24, 80, 140):
        assert BatchShape(160, gib * GIB).slices(512, 512) == 16
    assert BatchShape(160, 80 * GIB).slices(1024, 1024) == 4
    assert BatchShape(160, 80 * GIB).slices(256, 256) == 64


def test_a_hungry_network_gets_a_smaller_batch_and_never_none() -> None:
    assert BatchShape(3000, 24 * GIB).slices(512, 512) == 8
    assert BatchShape(3000, GIB).slices(2048, 2048) == 1


@given(
    bytes_per_pixel=st.floats(1, 1e5),
    gib=st.integers(1, 200),
    rows=st.integers(1, 4096),
    columns=st.integers(1, 4096),
)
def test_a_batch_of_several_slices_fits_with_its_margin(
    bytes_per_pixel: float, gib: int, rows: int, columns: int
) -> None:
    slices = BatchShape(bytes_per_pixel, gib * GIB).slices(rows, columns)
    assert slices.bit_count() == 1
    pixels = slices * rows * columns
    assert slices == 1 or pixels <= MAX_BATCH_PIXELS
    assert slices == 1 or pixels * bytes_per_pixel * MEMORY_MARGIN <= gib * GIB * MAX_MEMORY_SHARE


def test_one_slice_of_the_common_matrix_is_measured() -> None:
    memory = Measured(GIB, 300 * PROBE_PIXELS**2)
    shape = BatchShape.measured(lambda hu: hu.shape, memory)
    assert memory.calls == [(1, PROBE_PIXELS, PROBE_PIXELS)]
    assert shape == BatchShape(300, GIB)


def test_denoisers_measure_at_load_and_keep_to_it() -> None:
    memory = Measured(24 * GIB, 3000 * PROBE_PIXELS**2)
    man = ManDenoiser(CARD, ManNetwork(TINY), CPU, 1, memory=memory)
    red_cnn = SinglePassDenoiser(CARD, RedCnn(RedCnnConfig(channels=1)), CPU, memory=memory)
    assert len(memory.calls) == 2
    assert [one.slices_at_once(512, 512) for one in (man, red_cnn)] == [8, 8]


def test_a_matched_start_takes_slices_one_by_one() -> None:
    network = ManNetwork(replace(TINY, start="matched"))
    man = ManDenoiser(CARD, network, CPU, 1, memory=Measured(24 * GIB, 1))
    assert man.slices_at_once(512, 512) == 1


def test_a_cpu_needs_no_measurement() -> None:
    assert device_memory(CPU) is None
    assert ManDenoiser(CARD, ManNetwork(TINY), CPU, 1).slices_at_once(9, 9) == max_parallel_slices()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_counts_what_a_call_takes() -> None:
    memory = device_memory(torch.device("cuda"))
    assert memory is not None
    taken = memory.peak_bytes(lambda: torch.empty(1 << 24, dtype=torch.uint8, device="cuda"))
    assert 1 << 24 <= taken <= 1 << 25
    assert memory.total_bytes > 1 << 30
