"""Processes that work beside this one and end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait


@contextmanager
def process_pool(
    processes: int, prepare: Callable[..., object], *arguments: object
) -> Iterator[ProcessPoolExecutor]:
    """Start processes, each prepared by a call; what has not begun at the end is cancelled.

    They leave SIGINT to this process, which finishes its step first, and end if it was killed.
    After an exception, such as that of SIGINT, they end at once: their results are not used.
    """
    context = multiprocessing.get_context("spawn")  # threads and CUDA do not survive a fork
    ended, end = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        processes, mp_context=context, initializer=_begin, initargs=(ended, prepare, arguments)
    )
    try:
        yield pool
    except BaseException:
        end.close()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        end.close()
        ended.close()


def _begin(
    ended: Connection, prepare: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(ended,), daemon=True).start()
    prepare(*arguments)


def _end_with_parent(ended: Connection) -> None:
    """End when the other side of the pipe is closed, by the parent or by its death."""
    wait([ended])
    os._exit(1)
