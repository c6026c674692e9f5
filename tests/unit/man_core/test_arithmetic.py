"""Precision is what the card declares, on a GPU and only while the network runs."""

from __future__ import annotations

import threading

import pytest
import torch

from man_core import ModelCard, ModelError, load_denoiser
from man_core.arithmetic import arithmetic
from man_core.card import Precision, PrecisionDeviation

GPU = torch.device("cuda")


def flags() -> tuple[bool, ...]:
    """TF32 in convolutions and in matrix products, deterministic algorithms, trial runs."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_tf32_is_used_only_where_it_is_declared(precision: Precision) -> None:
    before, tf32 = flags(), precision == "tf32"
    with arithmetic(GPU, precision):
        assert flags() == (tf32, tf32, True, False)
    assert flags() == before


def test_the_arithmetic_of_others_comes_back_after_a_fault() -> None:
    before = flags()
    with pytest.raises(torch.OutOfMemoryError), arithmetic(GPU, "tf32"):
        raise torch.OutOfMemoryError("device is full")
    assert flags() == before


def test_threads_do_not_change_each_other_s_arithmetic() -> None:
    before, entered, seen = flags(), threading.Event(), []

    def other() -> None:
        entered.set()
        with arithmetic(GPU, "tf32"):
            seen.append(flags()[:2])

    thread = threading.Thread(target=other)
    with arithmetic(GPU, "float32"):
        thread.start()
        assert entered.wait(60)
        thread.join(0.2)  # the other one must wait, however long it is given
        assert (flags()[:2], seen) == ((False, False), [])
    thread.join(60)
    assert seen == [(True, True)]
    assert flags() == before


def test_a_cpu_is_left_alone() -> None:
    before = flags()
    with arithmetic(torch.device("cpu"), "float32"):
        assert flags() == before


CARD = ModelCard(
    name="a",
    version="1",
    method="man",
    summary="",
    weights_sha256="00",
    precision="tf32",
    deviations=(PrecisionDeviation("tf32", "a GPU", 0.16, 1.66),),
)


def test_a_card_keeps_its_precision_and_what_was_measured() -> None:
    assert ModelCard.from_json(CARD.to_json()) == CARD


def test_a_card_without_precision_is_float32_and_an_unknown_one_is_refused() -> None:
    plain = ModelCard(name="a", version="1", method="man", summary="").to_json()
    assert ModelCard.from_json(plain).precision == "float32"
    with pytest.raises(ValueError, match="precision 'float16'"):
        ModelCard.from_json(plain.replace('"float32"', '"float16"'))


def test_a_chosen_precision_stands_in_the_card_and_changes_the_digest() -> None:
    shipped, chosen = (
        load_denoiser("man", device="cpu", precision=one) for one in (None, "bfloat16")
    )
    assert (shipped.info.precision, chosen.info.precision) == ("float32", "bfloat16")
    assert shipped.info.digest != chosen.info.digest


def test_a_device_that_is_not_there_is_refused_in_any_precision() -> None:
    with pytest.raises(ModelError, match="not present"):
        load_denoiser("man", device="cuda:99", precision="tf32")
