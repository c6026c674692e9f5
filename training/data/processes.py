"""Processes that work beside this one and end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


@contextmanager
def process_pool(
    processes: int, prepare: Callable[..., object], *arguments: object
) -> Iterator[ProcessPoolExecutor]:
    """Start processes, each prepared by a call; what has not begun at the end is cancelled.

    They leave SIGINT to this process, which finishes its step first, and end if it was killed.
    """
    context = multiprocessing.get_context("spawn")  # threads and CUDA do not survive a fork
    pool = ProcessPoolExecutor(
        processes, mp_context=context, initializer=_begin, initargs=(prepare, arguments)
    )
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(prepare: Callable[..., object], arguments: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    prepare(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
