"""``python -m dicom_node.ct.decoding``: decode the frames that come on standard input.

It ends when standard input closes, which the kernel does however its parent ends.
"""

from __future__ import annotations

import os
import resource
import signal
from io import FileIO
from typing import Final

from dicom_node.ct import prepare_dicom_libraries
from dicom_node.ct.decoding.frame import Frame, Outcome, receive_frame, send_answer
from dicom_node.ct.decoding.limits import (
    MAX_PROCESSOR_SECONDS,
    MAX_SECONDS,
    decoding_bytes,
)
from dicom_node.memory import memory_limited

PARENTS_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Sent to all processes of a service or terminal; when to end is for the parent to decide."""


def main() -> None:
    """Answer requests until there are no more."""
    for number in PARENTS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF, signal.SIGALRM})
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would hold a patient's images
    requests, answers = _private_pipes()
    prepare_dicom_libraries()
    try:
        while True:
            _answer(answers, receive_frame(requests))
    except (EOFError, BrokenPipeError):
        return


def _private_pipes() -> tuple[FileIO, FileIO]:
    """Move the pipes away from standard input and output, to which C libraries may write."""
    requests, answers = (FileIO(os.dup(one), mode) for one, mode in ((0, "rb"), (1, "wb")))
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(nothing, standard)
    os.close(nothing)
    return requests, answers


def _answer(answers: FileIO, frame: Frame) -> None:
    # The default action of both signals ends the process, wherever its code is.
    signal.setitimer(signal.ITIMER_PROF, MAX_PROCESSOR_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
    words = None
    try:
        with memory_limited(decoding_bytes(frame)):
            words = frame.decode()
        outcome = Outcome.WORDS if words.shape == frame.shape else Outcome.DAMAGED
    except MemoryError:
        outcome = Outcome.NO_MEMORY
    except Exception:  # decoders of five libraries raise what they like
        outcome = Outcome.DAMAGED
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    send_answer(answers, outcome, words if outcome is Outcome.WORDS else None)


if __name__ == "__main__":
    main()
