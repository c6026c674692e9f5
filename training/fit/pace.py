"""Speed of a fit, and the share of its time in which the device waits for data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass
class Pace:
    """Steps, their time, and how much of it went by while the next batch was fetched.

    On a GPU two events enclose each batch in the stream: between them the GPU is idle or makes the
    batch. Elsewhere the host is timed. Validation and checkpoints do not count.

    Attributes:
        device: Device of the fit.
        steps: Steps made.
        seconds: Time of these steps, s.
        waited: Part of it without data to work on, s.
    """

    device: torch.device
    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def __post_init__(self) -> None:
        """Begin without marks."""
        self._marks: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._read = (0, 0.0, 0.0)

    @contextmanager
    def timed(self, steps: int = 0) -> Iterator[None]:
        """Time the launch of steps on the host, or its waiting until launched ones are done."""
        began = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - began
        self.steps += steps

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Time the fetching of one batch on the device."""
        if self.device.type != "cuda":
            began = time.perf_counter()
            yield
            self.waited += time.perf_counter() - began
            return
        first, last = _event(), _event()
        first.record()
        yield
        last.record()
        self._marks.append((first, last))

    def collect(self) -> None:
        """Add what the events measured; the device must have done all that was launched."""
        self.waited += sum(first.elapsed_time(last) for first, last in self._marks) / 1000
        self._marks.clear()

    def since_last(self) -> dict[str, float]:
        """Return steps per second and share of waiting since the last call, for the journal."""
        now = (self.steps, self.seconds, self.waited)
        steps, seconds, waited = (a - b for a, b in zip(now, self._read, strict=True))
        self._read = now
        return _rates(steps, seconds, waited)

    def in_all(self) -> dict[str, float]:
        """Return the same over all steps."""
        return _rates(self.steps, self.seconds, self.waited)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _rates(steps: float, seconds: float, waited: float) -> dict[str, float]:
    whole = max(seconds, 1e-9)
    return {
        "steps_per_second": round(steps / whole, 4),
        "data_wait_share": round(min(1.0, waited / whole), 4),
    }
