"""Signals while a part starts and holds no work yet."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def exit_when_stopped(should_stop: Callable[[], bool]) -> Iterator[None]:
    """End the process at once when it is asked to stop inside the block.

    For code that takes seconds and does not look at ``should_stop``, such as the import of torch.
    The flag is set as well: if the code inside suppresses the exit, the process ends at the next
    look at it.

    Args:
        should_stop: Set by the handlers of SIGTERM and SIGINT that are installed now.

    Raises:
        SystemExit: The process is asked to stop, or was before.
    """
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def stop(number: int, frame: FrameType | None) -> None:
        set_flag = handlers[signal.Signals(number)]
        if callable(set_flag):
            set_flag(number, frame)
        raise SystemExit(0)

    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    try:
        if should_stop():
            raise SystemExit(0)
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
