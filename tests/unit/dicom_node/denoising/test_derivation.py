"""Derived files that wait for their turn take bounded memory, whatever the size of the images."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from support.ct_factory import change_header, make_series

from dicom_node.ct.conversion.messages import SeriesLabels
from dicom_node.ct.derived.provenance import DeriveOptions, Provenance
from dicom_node.ct.read import open_series
from dicom_node.ct.reader import SliceReader
from dicom_node.denoising import derivation as derivation_module
from dicom_node.denoising.derivation import Derivation
from dicom_node.denoising.series import DenoiseOptions, GuardOptions, denoise_series
from dicom_node.errors import UnreadableFile
from man_core import Condition, GuardLimits, Limit, load_denoiser
from man_core.denoisers.identity import IdentityDenoiser

SLICES, SIZE = 8, 32
IDENTITY = load_denoiser("identity").info


class Late(Future[None]):
    """Work that nobody begins until its result is asked for."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__()
        self._work = work

    def result(self, timeout: float | None = None) -> None:
        self._work()


class LateThread(ThreadPoolExecutor):
    """A thread that is slower than everybody else."""

    def submit(self, work, /, *given, **named):  # type: ignore[no-untyped-def, override]
        return Late(lambda: work(*given, **named))


@pytest.mark.parametrize(
    ("slices_in_memory", "bound"), [(0.5, 1), (3, 3), (99, 5)], ids=["one", "bytes", "slices"]
)
def test_slices_that_wait_are_bounded_in_number_and_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slices_in_memory: float, bound: int
) -> None:
    monkeypatch.setattr(derivation_module, "MAX_WAITING_SLICES", 5)
    monkeypatch.setattr(derivation_module, "MAX_WAITING_BYTES", int(slices_in_memory * SIZE**2 * 9))
    files = [tmp_path / f"{index}.dcm" for index in range(SLICES)]
    provenance = Provenance.of(IDENTITY, steps=0, strength=1.0, seed=0)
    labels = SeriesLabels(provenance, DeriveOptions(), "", 0o077)
    stack = open_series(make_series(tmp_path / "in", slices=SLICES, size=SIZE))
    waiting = []
    with SliceReader(stack) as reader, LateThread(1) as thread:
        derivation = Derivation(reader, files, labels, thread)
        for index in range(SLICES):
            derivation.put(index, reader[index : index + 1])
            waiting.append(index + 1 - sum(file.exists() for file in files))
        derivation.finish()
    assert max(waiting) == bound
    assert all(file.exists() for file in files)


class Spike(IdentityDenoiser):
    """Raises one pixel of each slice beyond all others, to which the guard objects."""

    def __init__(self) -> None:
        super().__init__(IDENTITY)

    def denoise(
        self,
        hu: torch.Tensor,
        condition: Condition,
        generator: torch.Generator,
        on_step: object = None,
    ) -> torch.Tensor:
        result = hu.clone()
        result[:, 16, 16] = 3000.0
        return result


def test_a_file_that_changes_before_the_guard_objects_is_refused(tmp_path: Path) -> None:
    files = make_series(tmp_path / "in", size=SIZE)
    flagging = GuardOptions("flag", GuardLimits(overshoot=Limit(0.0, 0.0)))

    def replace(done: int, total: int) -> None:
        if done == total:
            change_header(files[0], SOPInstanceUID="1.2.3", DerivationDescription="another image")

    with pytest.raises(UnreadableFile, match=r"0001\.dcm has changed"):
        denoise_series(
            files, tmp_path / "out", Spike(), DenoiseOptions(guard=flagging), on_progress=replace
        )
    assert not list((tmp_path / "out").iterdir())
