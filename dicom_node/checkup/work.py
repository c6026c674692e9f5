"""What the node works with and on: rules, model, certificates, and how its queue stands."""

from __future__ import annotations

import time
from collections.abc import Iterator

from dicom_node.certificates import check_certificates
from dicom_node.checkup.verdict import Attempts, Doubt
from dicom_node.denoising.models import load_model
from dicom_node.ledger.engine import open_ledger
from dicom_node.ledger.measures import Waiting, waiting
from dicom_node.ledger.operations import LedgerStatus, status
from dicom_node.ledger.states import JobState
from dicom_node.rules import load_rules
from dicom_node.settings import Settings

LONG_HOURS = 24.0
"""A job that is open for longer waits for something that does not come."""


def attempts(settings: Settings) -> Attempts:
    """Rules, model, certificates, queue."""
    yield "rules", lambda: _rules(settings)
    yield "model", lambda: _model(settings)
    if (tls := settings.tls) is not None:
        yield "certificates", lambda: check_certificates(tls, now=time.time())
    yield "queue", lambda: _queue(settings)


def _rules(settings: Settings) -> str:
    count = len(load_rules(settings).rules)
    if count:
        return f"{count} in {settings.rules}"
    return "none: every original axial CT series is denoised"


def _model(settings: Settings) -> str:
    denoiser = load_model(settings.model)
    return (
        f"{denoiser.info.name} {denoiser.info.version}, {denoiser.steps} steps, weights unchanged,"
        f" on {denoiser.device}"
    )


def _queue(settings: Settings) -> str:
    ledger = open_ledger(settings.database)
    try:
        troubles = [*_troubles(status(ledger)), *_refused(waiting(ledger))]
    finally:
        ledger.close()
    if troubles:
        raise Doubt("; ".join(troubles) + ".")
    return "nothing paused, failed or stuck"


def _troubles(now: LedgerStatus) -> list[str]:
    found = [
        f"{pause.stage} is paused ({pause.reason or 'no reason given'}): `dicom-node jobs resume"
        f" {pause.stage}`"
        for pause in now.pauses
    ]
    if failed := now.jobs.get(JobState.FAILED, 0):
        what = "1 job has" if failed == 1 else f"{failed} jobs have"
        found.append(
            f"{what} failed: `dicom-node jobs show ID` says why, `jobs retry ID` tries again"
        )
    if now.oldest_open_at is not None:
        hours = (time.time() - now.oldest_open_at) / 3600
        if hours > LONG_HOURS:
            found.append(
                f"the oldest open job is {hours:.0f} hours old: see `dicom-node jobs list`"
            )
    return found


def _refused(now: Waiting) -> Iterator[str]:
    for name, refused in now.refused.items():
        yield (
            f"{name} has refused results (open jobs: {refused.jobs}): `dicom-node jobs show"
            f" {refused.first}` says why, `jobs retry ID` tries again"
        )
