"""A worker with one job whose device fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from pydicom import dcmread

from benchmarks.ct_series import write_phantom
from dicom_node.ct import prepare_dicom_libraries
from dicom_node.custody import Custody, open_custody
from dicom_node.denoising.models import ModelDenoise
from dicom_node.denoising.worker import Worker
from dicom_node.errors import NodeError
from dicom_node.housekeeping.completion import Completion
from dicom_node.ledger.arrivals import Arrival, record_instances
from dicom_node.ledger.operations import list_jobs
from dicom_node.logs import log_to_stderr
from dicom_node.settings import Settings
from dicom_node.store.inbox import Inbox
from dicom_node.store.outbox import Outbox

SLICES, SIZE_PIXELS = 3, 64
QUIET_SECONDS = 60.0

META_START_BYTES = 144
"""Preamble, prefix, and the group length of the File Meta Information (PS3.10, 7.1)."""


def end_of_worker(
    device: torch.device, folder: Path, damage: Callable[[torch.device], None]
) -> tuple[NodeError, str, int]:
    """Work on a job whose device fails before the first batch.

    Returns:
        The error with which the worker ends, the state of its job, and the number of derived files.
    """
    log_to_stderr()
    prepare_dicom_libraries()
    settings = _settings(device, folder)
    custody = open_custody(settings, lambda: False)
    custody.wait(lambda: False)
    inbox = Inbox(settings.inbox_folder, settings.quarantine_folder)
    outbox = Outbox(settings.outbox_folder)
    _queue_series(custody, inbox, settings, folder)
    worker = Worker(
        custody.ledger, inbox, outbox, settings.reports_folder, ModelDenoise(settings),
        settings.retry,
    )  # fmt: skip

    asked = []

    def should_stop() -> bool:
        asked.append(True)
        if len(asked) == 1:  # before the first batch
            damage(device)
        return False

    try:
        worker.work_once(should_stop)
    except NodeError as error:
        (job,) = list_jobs(custody.ledger)
        derived = sum(1 for path in settings.outbox_folder.rglob("*.dcm"))
        custody.ledger.close()
        return error, str(job.state), derived
    raise RuntimeError("The worker went on after its device had failed.")


def _settings(device: torch.device, folder: Path) -> Settings:
    return Settings.model_validate(
        {
            "ae_title": "CHECK",
            "storage": folder / "var",
            "database": f"sqlite:///{folder}/ledger.db",
            "complete_after_seconds": 1,
            "peers": [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}],
            "destinations": ["pacs"],
            "model": {"name": "man", "device": str(device)},
            "retention": {"disk_reserve_gib": 0},
        }
    )


def _queue_series(custody: Custody, inbox: Inbox, settings: Settings, folder: Path) -> None:
    """Take a series in as if it had been received a minute ago, and queue its job."""
    now = time.time()
    for path in write_phantom(folder / "scan", SLICES, size=SIZE_PIXELS):
        header, whole = dcmread(path, stop_before_pixels=True), path.read_bytes()
        begin = META_START_BYTES + int(header.file_meta.FileMetaInformationGroupLength)
        series_uid, sop_uid = str(header.SeriesInstanceUID), str(header.SOPInstanceUID)
        stored = inbox.put(whole[:begin], whole[begin:], series_uid=series_uid, sop_uid=sop_uid)
        arrival = Arrival(
            series_uid=series_uid, study_uid=str(header.StudyInstanceUID), sop_uid=sop_uid,
            sha256=stored.sha256, name=stored.name, size=stored.size, source_ae="CHECK",
        )  # fmt: skip
        record_instances(custody.ledger, [arrival], now=now - QUIET_SECONDS, exists=lambda _: True)
    Completion(custody.ledger, inbox, settings).complete_series(now)
