"""Flags that signals set."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from support.peers import environment

PROGRAM = """
import signal, sys
from dicom_node.cli.signals import ReloadFlag, StopFlag

number = int(sys.argv[1])
again = 50

def interrupt(frame, event, argument):
    global again
    if again:
        again -= 1
        signal.raise_signal(number)

stop, reload = StopFlag(), ReloadFlag()
sys.setprofile(interrupt)
signal.raise_signal(number)
sys.setprofile(None)
print(stop(), reload(), reload())
"""
"""Sends itself the signal again at each call that its handler makes."""


@pytest.mark.parametrize(
    ("number", "flags"),
    [(signal.SIGTERM, "True False False"), (signal.SIGHUP, "False True False")],
)
def test_a_signal_that_interrupts_its_own_handler_does_no_harm(
    number: signal.Signals, flags: str
) -> None:
    """A supervisor and the node may both ask a part to stop, at the same moment."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(int(number))],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == f"{flags}\n"
