"""Mixed precision is used where it pays, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from man_core.arithmetic import arithmetic
from training.fit.precision import gpu_arithmetic, mixed_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("features", "half"),
    [
        ({"avx2": True}, False),
        ({"avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
    ],
)
def test_a_cpu_that_only_imitates_bfloat16_stays_in_float32(
    monkeypatch: pytest.MonkeyPatch, features: Mapping[str, bool], half: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    x = torch.ones(4, 4)
    with mixed_precision(CPU, wanted=True):
        assert (x @ x).dtype is (torch.bfloat16 if half else torch.float32)


def test_it_is_off_where_the_recipe_does_not_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    x = torch.ones(4, 4)
    with mixed_precision(CPU, wanted=False):
        assert (x @ x).dtype is torch.float32


def switches() -> tuple[bool, bool, bool]:
    backends = torch.backends
    return backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32, backends.cudnn.benchmark


@pytest.mark.parametrize("tf32", [False, True])
def test_a_denoiser_and_a_compiler_can_read_the_arithmetic_of_a_fit(tf32: bool) -> None:
    before = switches()
    with gpu_arithmetic(tf32):
        assert switches() == (tf32, tf32, True)
        with arithmetic(torch.device("cuda"), "float32"):
            assert switches() == (False, False, False)
        assert switches() == (tf32, tf32, True)
        assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
    assert switches() == before
