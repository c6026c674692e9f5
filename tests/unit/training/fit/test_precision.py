"""Mixed precision is used where it pays, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from training.fit.precision import mixed_precision

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
