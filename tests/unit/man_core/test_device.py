from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from man_core import Condition, load_denoiser
from man_core.device import max_parallel_slices, run_in_parallel


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_slices_side_by_side_come_out_as_alone() -> None:
    denoiser = load_denoiser("man", device="cpu")
    assert denoiser.slices_at_once(512, 512) == max_parallel_slices() == 3
    hu = 50 * torch.randn(3, 60, 70, generator=torch.Generator().manual_seed(1))

    def denoise(slices: torch.Tensor) -> torch.Tensor:
        return denoiser.denoise(slices, Condition(), torch.Generator().manual_seed(7))

    together = denoise(hu)
    alone = torch.cat([denoise(one[None]) for one in hu])
    assert torch.equal(together, alone)
    assert torch.equal(together, denoise(hu))


def test_each_runs_on_one_thread_and_the_number_of_threads_stays() -> None:
    seen = run_in_parallel(lambda index: torch.tensor([index, torch.get_num_threads()]), 5)
    assert seen.view(5, 2).tolist() == [[index, 1] for index in range(5)]
    assert torch.get_num_threads() == 3


def test_what_goes_wrong_in_one_slice_is_raised() -> None:
    def fails(index: int) -> torch.Tensor:
        if index == 1:
            raise ValueError("slice 1")
        return torch.zeros(1)

    with pytest.raises(ValueError, match="slice 1"):
        run_in_parallel(fails, 3)
    assert torch.get_num_threads() == 3
