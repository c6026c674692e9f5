"""A death before every single step: what chance may miss in :mod:`test_worst_day`.

Each round starts a part that dies before its Nth step, sends it a series, and goes on to N + 1: the
next one has to clear up what this one left. Part of ``make torture``.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.consistency import inconsistencies
from support.node_under_test import LINE_SECONDS, NodeUnderTest, node_under_test
from support.part_processes import PARTS, Part, drained, parts
from support.peers import orthanc, wait_until

CRASH_AT_STEP = Path(__file__).parents[1] / "support" / "crash_at_step.py"
MAX_STEPS = 150
PATIENT = {"attempts": 1000, "first_delay_seconds": 0.1, "longest_delay_seconds": 0.3}


@dataclass
class DoomedPart(Part):
    """Dies before its Nth step.

    Attributes:
        steps: N; 0 lives on.
    """

    steps: int = 0

    def arguments(self) -> list[str]:
        if self.steps == 0:
            return super().arguments()
        return [sys.executable, str(CRASH_AT_STEP), str(self.steps), *super().arguments()[3:]]


@pytest.mark.skipif(os.environ.get("TORTURE") != "1", reason="part of `make torture`")
@pytest.mark.parametrize("command", PARTS)
def test_a_death_before_every_step_loses_and_doubles_nothing(tmp_path: Path, command: str) -> None:
    others = [name for name in PARTS if name != command]
    with (
        node_under_test(tmp_path, retry=PATIENT) as line,
        orthanc(tmp_path / "pacs", line.ports) as pacs,
    ):
        doomed = DoomedPart(command, line.config, tmp_path / "doomed.log")
        with parts(line.config, others) as made:
            steps = rounds(line, doomed)
            doomed.steps = 0
            doomed.start()
            line.send()
            wait_until("all is done", lambda: drained([*made, doomed], line.ledger), LINE_SECONDS)
            doomed.stop()
        with line.node():  # a start sweeps what the dead have left
            pass
        sys.stdout.write(f"{command}: died before each of {steps} steps\n")
        assert inconsistencies(line.scans, pacs, line.ledger, line.storage) == []


def rounds(line: NodeUnderTest, doomed: DoomedPart) -> int:
    """Die before step 1, 2, 3 ... until one lives to the end of its series; how many it took."""
    for steps in range(1, MAX_STEPS):
        doomed.steps = steps
        doomed.start()
        line.unsent.update(line.scan(3).files)
        wait_until("it died or has all", lambda: doomed.has_died() or line.offered())
        wait_until("it died or all is done", lambda: doomed.has_died() or line.all_done())
        if not doomed.has_died():
            doomed.stop()
            return steps - 1
    return MAX_STEPS
