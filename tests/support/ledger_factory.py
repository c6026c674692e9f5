"""A small node on disk for tests of its ledger: settings, inbox, outbox, arrivals and jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from dicom_node.ledger.arrivals import Arrival, Recorded, record_instances
from dicom_node.ledger.claim import Claim
from dicom_node.ledger.deliveries import DeliveryClaim, claim_delivery
from dicom_node.ledger.engine import Ledger, open_ledger
from dicom_node.ledger.jobs import JobClaim, claim_job, enqueue
from dicom_node.ledger.model import Job
from dicom_node.ledger.series import Series, complete, quiet_series, undecided
from dicom_node.settings import Settings
from dicom_node.store.inbox import Inbox, StoredFile
from dicom_node.store.outbox import Outbox
from dicom_node.work_order import DoseGain, Priority, WorkOrder

START = 1_000_000.0
"""The tests' clock begins here."""

META = b"\x00" * 128 + b"DICM"

_Claim = TypeVar("_Claim", bound=Claim[Any, Any])


def at(now: float) -> Callable[[], float]:
    """A clock that does not advance."""
    return lambda: now


def later(claim: _Claim, now: float) -> _Claim:
    """The same claim at another moment."""
    return replace(claim, clock=at(now))


def settings_in(folder: Path, **changes: Any) -> Settings:
    """Settings with two destinations and short delays."""
    peer = {"ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    return Settings.model_validate(
        {
            "ae_title": "DENOISE",
            "storage": folder / "var",
            "database": f"sqlite:///{folder}/var/ledger.db",
            "complete_after_seconds": 10,
            "peers": [{"name": "pacs", **peer}, {"name": "archive", **peer}],
            "destinations": ["pacs"],
            "model": {"name": "identity"},
            "retry": {"attempts": 3, "first_delay_seconds": 30, "longest_delay_seconds": 100},
            **changes,
        }
    )


class NodeFixture:
    """The parts of a node which keep things, in one folder."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        self.settings = settings_in(folder, **changes)
        self.ledger: Ledger = open_ledger(self.settings.database)
        self.inbox = Inbox(self.settings.inbox_folder, self.settings.quarantine_folder)
        self.outbox = Outbox(self.settings.outbox_folder)

    def store(self, dataset: bytes, series_uid: str = "1.2", sop_uid: str = "1.2.1") -> StoredFile:
        return self.inbox.put(META, dataset, series_uid=series_uid, sop_uid=sop_uid)

    def record(
        self,
        stored: StoredFile,
        series_uid: str = "1.2",
        sop_uid: str = "1.2.1",
        now: float = START,
    ) -> Recorded:
        arrival = Arrival(
            series_uid=series_uid,
            study_uid="1.1",
            sop_uid=sop_uid,
            sha256=stored.sha256,
            name=stored.name,
            size=stored.size,
            source_ae="CTSCAN",
        )
        (recorded,) = record_instances(
            self.ledger, [arrival], now=now, exists=lambda _: stored.path.exists()
        )
        return recorded

    def arrive(
        self,
        dataset: bytes = b"pixels",
        *,
        series_uid: str = "1.2",
        sop_uid: str = "1.2.1",
        now: float = START,
    ) -> Recorded:
        """One image comes in, as the receiver would take it."""
        stored = self.store(dataset, series_uid, sop_uid)
        return self.record(stored, series_uid, sop_uid, now)

    def arrive_files(self, files: Sequence[Path], now: float = START) -> str:
        """The images of one series come in; returns its Series Instance UID."""
        from pydicom import dcmread  # heavy, and the ledger's own tests need no images
        from pydicom.filebase import DicomBytesIO
        from pydicom.filewriter import write_file_meta_info

        uid = ""
        for path in files:
            header = dcmread(path, stop_before_pixels=True)
            uid, sop_uid = str(header.SeriesInstanceUID), str(header.SOPInstanceUID)
            meta = DicomBytesIO()
            write_file_meta_info(meta, header.file_meta)
            start, whole = len(META) + len(meta.getvalue()), path.read_bytes()
            stored = self.inbox.put(whole[:start], whole[start:], series_uid=uid, sop_uid=sop_uid)
            self.record(stored, uid, sop_uid, now)
        return uid

    def arrive_series(self, slices: int = 3, now: float = START, **options: Any) -> str:
        """A real CT series comes in; returns its Series Instance UID."""
        from support.ct_factory import make_series  # heavy likewise

        return self.arrive_files(make_series(self.folder / "scan", slices, **options), now)

    def complete(self, now: float, quiet_seconds: float = 10) -> list[Series]:
        """Complete what has been quiet for so long; all series that await a decision."""
        for series in quiet_series(
            self.ledger, quiet_seconds=quiet_seconds, at_most_seconds=10_000, now=now
        ):
            complete(self.ledger, series, gap="", forced=False, now=now)
        return undecided(self.ledger)

    def job(
        self,
        *,
        destinations: Sequence[str] = ("pacs",),
        series_uid: str = "1.2",
        priority: Priority = Priority.NORMAL,
        strength: float = 1.0,
        dose_gain: DoseGain = None,
        target_noise_hu: float | None = None,
        now: float = START,
    ) -> Job:
        """A job waiting to be denoised, of a series of one image."""
        self.arrive(series_uid=series_uid, now=now - 100)
        (series,) = self.complete(now)
        order = WorkOrder(
            "identity",
            strength,
            tuple(destinations),
            priority,
            dose_gain=dose_gain,
            target_noise_hu=target_noise_hu,
        )
        job = enqueue(self.ledger, series, order, now=now)
        assert job is not None
        return job

    def claim_job(
        self, now: float = START, *, owner: str = "w", off_peak: bool = False
    ) -> JobClaim:
        """The next job, claimed by a worker."""
        claim = claim_job(self.ledger, owner=owner, off_peak=off_peak, clock=at(now))
        assert claim is not None
        return claim

    def claim_delivery(
        self, destination: str = "pacs", now: float = START, *, owner: str = "s"
    ) -> DeliveryClaim:
        """The next delivery to a destination, claimed by a sender."""
        claim = claim_delivery(self.ledger, destination, owner=owner, clock=at(now))
        assert claim is not None
        return claim


class House:
    """The sweeps of a node fixture, to be run by hand."""

    def __init__(self, node: NodeFixture) -> None:
        # Heavy, and the processes that the ledger's own tests start need none of it.
        from dicom_node.custody import Custody
        from dicom_node.housekeeping.completion import Completion
        from dicom_node.housekeeping.queue import Queue
        from dicom_node.housekeeping.retention import Retention

        completion = Completion(node.ledger, node.inbox, node.settings)
        queue = Queue(node.ledger, node.settings)
        custody = Custody(node.ledger, node.settings)
        retention = Retention(custody, node.inbox, node.outbox, node.settings)
        self.complete_series = completion.complete_series
        self.release_leases, self.wake_jobs = queue.release_leases, queue.wake_jobs
        self.correct_clock = queue.correct_clock
        self.enforce_retention = retention.enforce_retention
        self.sweep_leftovers = retention.sweep_leftovers
