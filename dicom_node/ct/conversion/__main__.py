"""``python -m dicom_node.ct.conversion``: carry out the requests that come on standard input.

It ends when standard input closes, which the kernel does however its parent ends.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import threading
from io import FileIO
from typing import Any, Final

from numpy.typing import NDArray

from dicom_node.ct import prepare_dicom_libraries
from dicom_node.ct.conversion.messages import (
    Derive,
    Object,
    Read,
    receive_request,
    send_done,
    send_error,
)
from dicom_node.ct.conversion.slices import Slices, object_to

PARENTS_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Sent to all processes of a service or terminal; when to end is for the parent to decide."""


END_SECONDS: Final = 5.0


def main() -> None:
    """Carry out requests until there are no more."""
    for number in PARENTS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF, signal.SIGALRM})
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would hold a patient's images
    requests, answers = _private_pipes()
    threading.Thread(target=_end_after_parent, args=(requests,), daemon=True).start()
    prepare_dicom_libraries()
    slices = Slices()
    try:
        while True:
            _answer(requests, answers, slices)
    except (EOFError, BrokenPipeError):
        return


def _end_after_parent(requests: FileIO) -> None:
    """End soon after the parent, even while a request waits for a disk or a named pipe."""
    parent = select.poll()
    parent.register(requests, 0)  # reports that the other end is closed, and nothing else
    parent.poll()
    threading.Event().wait(END_SECONDS)
    os._exit(1)


def _private_pipes() -> tuple[FileIO, FileIO]:
    """Move the pipes away from standard input and output, to which C libraries may write."""
    requests, answers = (FileIO(os.dup(one), mode) for one, mode in ((0, "rb"), (1, "wb")))
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(nothing, standard)
    os.close(nothing)
    return requests, answers


def _answer(requests: FileIO, answers: FileIO, slices: Slices) -> None:
    nonce, request, hu = receive_request(requests)
    digest, arrays = b"", tuple[NDArray[Any], ...]()
    try:
        if isinstance(request, Read):
            found, read = slices.read(request)
            digest, arrays = found.digest, (read, found.padding)
        elif isinstance(request, Derive):
            slices.derive(request, hu)
        elif isinstance(request, Object):
            object_to(request)
        else:
            for ticket in request.tickets:
                slices.release(ticket)
    except Exception as error:  # decoders of five libraries raise what they like
        send_error(answers, nonce, error)
    else:
        send_done(answers, nonce, digest, arrays)


if __name__ == "__main__":
    main()
