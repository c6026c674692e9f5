"""A sender in the process of the test, with real peers and a clock that tests move."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_node.ledger.operations import get_job
from dicom_node.ledger.states import JobState
from dicom_node.sending import Sender
from dicom_node.sending.courier import SendingContext
from dicom_node.sending.routes import PeerTransport
from support.ct_factory import make_series
from support.ledger_factory import START, NodeFixture

MAX_ROUNDS = 2000
PATIENT = {"attempts": 1000, "first_delay_seconds": 30, "longest_delay_seconds": 100}
SERIES, SLICES = 2, 3


class SenderUnderTest:
    """The sending part of a node, whose clock goes on when nothing is due."""

    def __init__(self, folder: Path, peers: Sequence[dict[str, Any]], **changes: Any) -> None:
        options = {"peers": list(peers), "retry": PATIENT, **changes}
        self.node = NodeFixture(folder, **options)
        self.now = START
        transport = PeerTransport(self.node.settings)
        context = SendingContext(
            self.node.ledger,
            self.node.outbox,
            transport,
            self.node.settings,
            "s",
            clock=lambda: self.now,
        )
        self.sender = Sender(context)
        self.files: dict[str, Path] = {}
        names = [peer["name"] for peer in peers]
        self.jobs = [self._ready(number, names) for number in range(SERIES)]
        assert len(self.files) == SERIES * SLICES

    def _ready(self, number: int, destinations: Sequence[str]) -> int:
        job = self.node.job(series_uid=f"1.2.{number}", destinations=destinations)
        claim = self.node.claim_job()
        staging = self.node.outbox.stage(job.token)
        made = make_series(staging, SLICES, study=f"study {number}", seed=number)
        self.node.outbox.commit(job.token, staging)
        claim.derived(len(made))
        for path in self.node.outbox.committed(job.token):
            self.files[str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)] = path
        return job.id

    def send_all(self) -> None:
        """Go on until every job is done."""
        for _ in range(MAX_ROUNDS):
            if self.states() == {JobState.DONE}:
                return
            self.sender.send_once(lambda: False)
            self.now += 400.0
        pytest.fail(f"not done after {MAX_ROUNDS} goes: {self.reasons()}")

    def states(self) -> set[JobState]:
        return {get_job(self.node.ledger, job).state for job in self.jobs}

    def reasons(self) -> list[str]:
        return [get_job(self.node.ledger, job).reason for job in self.jobs]
