"""Batches of a series on their way to a device, through a denoiser, and back.

On a CPU every slice is computed by itself. On a GPU all batches of a series have the same shape,
the last one filled up with copies of its last slice, so that a slice gets the same bits in whatever
company; batches are copied to and from the device while their neighbours are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from man_core.condition import Condition
from man_core.denoiser import Denoiser
from man_core.errors import ModelError, Stopped
from man_core.heap import kept_heap
from man_core.slices import HuSlices

Batch = tuple[slice, NDArray[np.float32]]
"""Slices of the series and their result in HU, which is valid until the next one is asked for."""

ShouldStop = Callable[[], bool]


class Work(Protocol):
    """Work on each batch of a series, on the device of its denoiser."""

    @property
    def denoiser(self) -> Denoiser:
        """Method that determines device and number of slices at once."""
        ...

    def run(self, hu: Tensor) -> tuple[Tensor, Tensor]:
        """Return the result for slices in HU, and whether it is finite.

        Args:
            hu: [slice, row, column], or with neighbours [slice, 1 + neighbour, row, column].
        """
        ...

    def fault(self) -> ModelError:
        """Return the error for a result that is not finite."""
        ...


@dataclass(frozen=True)
class BatchWork:
    """Work on a batch: denoise, check and blend, all on one device.

    Attributes:
        denoiser: Denoising method.
        condition: Acquisition facts of the scan.
        seed: Seed of the starting noise, from which every batch starts.
        strength: 0 to 1, blended in HU.
        should_stop: Called between sampling steps: a slice of a thousand steps takes minutes to
            hours. None: a batch is never left.

    Raises:
        ValueError: The strength is not within 0 to 1.
    """

    denoiser: Denoiser
    condition: Condition
    seed: int
    strength: float = 1.0
    should_stop: ShouldStop | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(f"The strength must be within 0 to 1, got {self.strength}.")

    def run(self, hu: Tensor) -> tuple[Tensor, Tensor]:
        """Denoise slices in HU; see ``Work.run``.

        Returns:
            The blended result, and whether all values of the model are finite, as a tensor: asking
            it would wait for the device.

        Raises:
            ModelError: The model returned another number of pixels.
            Stopped: ``should_stop`` returned True between two sampling steps.
        """
        generator = torch.Generator().manual_seed(self.seed)
        result = self.denoiser.denoise(hu, self.condition, generator, self._after_step)
        own = own_slices(hu)
        if result.shape != own.shape:
            raise self.fault()
        blended = result if self.strength == 1.0 else own + self.strength * (result - own)
        return blended, all_finite(result)

    def _after_step(self, done: int, total: int) -> None:
        """Ask whether to stop, except after the last step, when the result is there."""
        if done < total:
            check_stop(self.should_stop)

    def fault(self) -> ModelError:
        """Return the error of a model whose result cannot be used."""
        return ModelError(
            f"Model {self.denoiser.info.name!r} returned values that are not finite; nothing is"
            " written."
        )


def own_slices(hu: Tensor) -> Tensor:
    """Return slices [slice, row, column] without the neighbours that may come with them."""
    return hu[:, 0] if hu.ndim == 4 else hu


def denoised_batches(
    source: HuSlices, work: Work, should_stop: ShouldStop | None = None
) -> Iterator[Batch]:
    """Denoise a series in HU batch by batch, on the denoiser's device.

    Args:
        source: The series; for a model that sees neighbours, with them (``shown_slices``).
        work: What is done with a batch.
        should_stop: Called before every batch.

    Raises:
        ModelError: The model returned values that are not finite.
        Stopped: ``should_stop`` returned True.
        torch.OutOfMemoryError: See ``fixed_shape_batches``.
    """
    step = work.denoiser.slices_at_once(*source.shape[1:])
    device = torch.device(work.denoiser.device)
    if device.type == "cpu":
        return plain_batches(source, work, step, should_stop)
    return fixed_shape_batches(source, work, device, step, should_stop)


def plain_batches(
    source: HuSlices, work: Work, step: int, should_stop: ShouldStop | None = None
) -> Iterator[Batch]:
    """Denoise at most ``step`` slices at once; half as many after each lack of memory.

    Raises:
        torch.OutOfMemoryError: One slice alone does not fit.
    """
    with kept_heap():
        done = 0
        while done < len(source):
            check_stop(should_stop)
            part = slice(done, min(done + step, len(source)))
            try:
                result, finite = work.run(torch.from_numpy(source[part].copy()))
            except torch.OutOfMemoryError:
                if step == 1:
                    raise
                step //= 2
                continue
            if not finite:
                raise work.fault()
            yield part, result.numpy()
            done = part.stop


def fixed_shape_batches(
    source: HuSlices,
    work: Work,
    device: torch.device,
    step: int,
    should_stop: ShouldStop | None = None,
) -> Iterator[Batch]:
    """Denoise exactly ``step`` slices at once, on a device with memory of its own.

    Where the device has no memory for the first batch, the series begins again with half the shape,
    so that all of it is computed alike. Only its last bits may then differ from those of another
    run. Once a result has been yielded, which stays as it is, the shape stays too: the batch is
    computed again, with the same bits, in the memory that PyTorch gives back.

    Raises:
        torch.OutOfMemoryError: One slice alone does not fit, or a later batch does not, twice.
    """
    done = lacked_at = 0
    while True:
        try:
            with _Lane(work, device, step) as lane:
                for part, result in lane.batches(source, done, should_stop):
                    done = part.stop
                    yield part, result
            return
        except torch.OutOfMemoryError:
            if done == lacked_at and (done or step == 1):
                raise
            step, lacked_at = step if done else step // 2, done
        torch.cuda.empty_cache()


class _Lane:
    """Two slots of one batch shape in turn, with a stream for each direction of copying."""

    def __init__(self, work: Work, device: torch.device, step: int) -> None:
        self._work, self._device, self._step = work, device, step
        self._module = torch.get_device_module(device)
        self._slots: list[_Slot] = []
        place = {"device": device} if device.type == "cuda" else {}
        self._inward, self._outward = (self._module.Stream(**place) for _ in range(2))

    def __enter__(self) -> _Lane:
        return self

    def __exit__(self, *error: object) -> None:
        """Wait for what was started, since it uses the memory of the slots; give that back."""
        with suppress(torch.AcceleratorError):  # a device that fails has said so already
            self._module.synchronize(self._device)
        self._slots.clear()

    def batches(
        self, source: HuSlices, done: int, should_stop: ShouldStop | None
    ) -> Iterator[Batch]:
        """Yield each batch after slice ``done``, when the next one has been started."""
        started: tuple[_Slot, slice] | None = None
        for number, first in enumerate(range(done, len(source), self._step)):
            check_stop(should_stop)
            part = slice(first, min(first + self._step, len(source)))
            hu = source[part]
            if not self._slots:
                self._allocate(hu.shape[1:])
            slot = self._slots[number % 2]
            self._start(slot, hu)
            if started is not None:
                yield self._finished(*started)
            started = slot, part
        if started is not None:
            yield self._finished(*started)

    def _allocate(self, shape: tuple[int, ...]) -> None:
        """Make the slots for slices of a shape, with neighbours or without."""
        self._slots = [_Slot(self._device, (self._step, *shape)) for _ in range(2)]
        self._inward.wait_stream(self._module.current_stream(self._device))

    def _start(self, slot: _Slot, hu: NDArray[np.float32]) -> None:
        filled = slot.host_in.numpy()
        filled[: len(hu)] = hu
        filled[len(hu) :] = hu[-1]
        with self._module.stream(self._inward):
            slot.device_in.copy_(slot.host_in, non_blocking=True)
            slot.arrived.record(self._inward)
        computing = self._module.current_stream(self._device)
        computing.wait_event(slot.arrived)
        result, finite = self._work.run(slot.device_in)
        slot.device_out.copy_(result)
        slot.device_finite.copy_(finite)
        slot.computed.record(computing)
        with self._module.stream(self._outward):
            self._outward.wait_event(slot.computed)
            slot.host_out.copy_(slot.device_out, non_blocking=True)
            slot.host_finite.copy_(slot.device_finite, non_blocking=True)
            slot.returned.record(self._outward)

    def _finished(self, slot: _Slot, part: slice) -> Batch:
        slot.returned.synchronize()
        if not slot.host_finite:
            raise self._work.fault()
        return part, slot.host_out[: part.stop - part.start].numpy()


class _Slot:
    """Buffers of one batch on both sides, pinned on the host, and the events between its steps.

    Whoever waits for an event sleeps, and leaves the core to those who read and write.
    """

    def __init__(self, device: torch.device, shape: tuple[int, ...]) -> None:
        pinned = device.type == "cuda"
        self.device_in = torch.empty(shape, device=device)
        own = (shape[0], *shape[-2:])
        self.device_out = torch.empty(own, device=device)
        self.device_finite = torch.empty((), dtype=torch.bool, device=device)
        self.host_in = torch.empty(shape, pin_memory=pinned)
        self.host_out = torch.empty(own, pin_memory=pinned)
        self.host_finite = torch.empty((), dtype=torch.bool, pin_memory=pinned)
        module, blocking = torch.get_device_module(device), {"blocking": True} if pinned else {}
        self.arrived, self.computed, self.returned = (module.Event(**blocking) for _ in range(3))


def all_finite(values: Tensor) -> Tensor:
    """Return whether all values are finite, as a tensor: asking it would wait for the device.

    Lowest and highest value show it in one pass without further images.
    """
    return torch.isfinite(torch.stack(torch.aminmax(values))).all()


def check_stop(should_stop: ShouldStop | None) -> None:
    """Raise ``Stopped`` if ``should_stop`` says so."""
    if should_stop is not None and should_stop():
        raise Stopped
