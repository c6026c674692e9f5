"""Noise and guard of a series, measured in a thread of their own while it is denoised.

The noise of the source comes first, since the guard compares with it; it needs a few slices only.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from man_core.guard.inspection import Inspection
from man_core.guard.limits import GuardLimits
from man_core.guard.verdict import Finding
from man_core.noise import NoiseSample, NoiseTexture, sampled_slices
from man_core.slices import SliceSource

MAX_WAITING_BATCHES = 2
"""Batches that may wait for the thread; more would fill the memory."""


class Watch:
    """Watch over the denoising of one series.

    Args:
        source: The series.
        pixel_mm: Side of a pixel.
        limits: Limits of the guard; None turns it off.
        device: Device of the denoiser; the guard's arithmetic runs there too.
    """

    def __init__(
        self, source: SliceSource, pixel_mm: float, limits: GuardLimits | None, device: str
    ) -> None:
        self._device, self._torch_threads = torch.device(device), torch.get_num_threads()
        self.seconds = 0.0
        self.before = self._noise_before(source)
        self._sample = NoiseSample(len(source))
        self._inspection = limits and Inspection(pixel_mm, self.before, limits, device)
        self._thread = ThreadPoolExecutor(1, "guard")
        self._waiting = deque((self._thread.submit(self._prepare_thread),))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._thread.shutdown(cancel_futures=True)
        torch.set_num_threads(self._torch_threads)  # a thread's choice is the default of later ones

    def put(
        self,
        first: int,
        source: NDArray[np.float32],
        result: NDArray[np.float32],
        padding: NDArray[np.bool_] | None,
    ) -> None:
        """Take denoised slices [slice, row, column], which must not change any more."""
        self._waiting.append(self._thread.submit(self._measure, first, source, result, padding))
        while len(self._waiting) > MAX_WAITING_BATCHES:
            self._waiting.popleft().result()

    def finish(self) -> tuple[NoiseTexture, tuple[Finding, ...]]:
        """Return the noise of the result, and the findings; empty with the guard off."""
        for one in self._waiting:
            one.result()
        begin = time.perf_counter()
        after = self._sample.estimate()
        findings = self._inspection.findings(after) if self._inspection else ()
        self.seconds += time.perf_counter() - begin
        return after, findings

    def _noise_before(self, source: SliceSource) -> NoiseTexture:
        sample = NoiseSample(len(source))
        for index in sampled_slices(len(source)):
            hu = source[index : index + 1]
            begin = time.perf_counter()
            sample.add(index, hu)
            self.seconds += time.perf_counter() - begin
        return sample.estimate()

    def _prepare_thread(self) -> None:
        """Leave the other cores to the denoiser, and on a GPU its stream too."""
        torch.set_num_threads(1)
        if self._device.type == "cuda":
            torch.cuda.set_stream(torch.cuda.Stream(self._device))  # type: ignore[no-untyped-call]

    def _measure(
        self,
        first: int,
        source: NDArray[np.float32],
        result: NDArray[np.float32],
        padding: NDArray[np.bool_] | None,
    ) -> None:
        begin = time.perf_counter()
        self._sample.add(first, result)
        if self._inspection:
            self._inspection.add(first, source, result, padding)
        self.seconds += time.perf_counter() - begin
