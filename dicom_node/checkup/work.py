"""Checks of rules, model, certificates and queue."""

from __future__ import annotations

import time
from collections.abc import Iterator

from dicom_node.certificates import check_certificates
from dicom_node.checkup.verdict import Checks, CheckWarning
from dicom_node.denoising.models import load_model
from dicom_node.ledger.engine import open_ledger
from dicom_node.ledger.measures import Waiting, waiting
from dicom_node.ledger.operations import LedgerStatus, status
from dicom_node.ledger.states import JobState
from dicom_node.rules import load_rules
from dicom_node.settings import Settings

MAX_OPEN_HOURS = 24.0
"""A job that is open for longer is stuck."""


def checks(settings: Settings) -> Checks:
    """Generate the checks of rules, model, certificates and queue."""
    yield "rules", lambda: _rules(settings)
    yield "model", lambda: _model(settings)
    if (tls := settings.tls) is not None:
        yield "certificates", lambda: check_certificates(tls, now=time.time())
    yield "queue", lambda: _queue(settings)


def _rules(settings: Settings) -> str:
    count = len(load_rules(settings).rules)
    if count:
        return f"Rules in {settings.rules}: {count}."
    return "There are none: every original axial CT series is denoised."


def _model(settings: Settings) -> str:
    denoiser = load_model(settings.model)
    return (
        f"{denoiser.info.name} {denoiser.info.version}, {denoiser.steps} steps, weights unchanged,"
        f" on {denoiser.device}."
    )


def _queue(settings: Settings) -> str:
    ledger = open_ledger(settings.database)
    try:
        troubles = [*_troubles(status(ledger)), *_refused(waiting(ledger))]
    finally:
        ledger.close()
    if troubles:
        text = "; ".join(troubles)
        raise CheckWarning(f"{text[:1].upper()}{text[1:]}.")
    return "Nothing is paused, failed or stuck."


def _troubles(now: LedgerStatus) -> list[str]:
    found = [
        f"stage {pause.stage} is paused ({pause.reason or 'no reason given'}): `dicom-node jobs"
        f" resume {pause.stage}` resumes it"
        for pause in now.pauses
    ]
    if failed := now.jobs.get(JobState.FAILED, 0):
        what = "1 job has" if failed == 1 else f"{failed} jobs have"
        found.append(
            f"{what} failed: `dicom-node jobs show ID` gives the reason, `jobs retry ID` retries"
        )
    if now.oldest_open_at is not None:
        hours = (time.time() - now.oldest_open_at) / 3600
        if hours > MAX_OPEN_HOURS:
            found.append(
                f"the oldest open job is {hours:.0f} hours old: see `dicom-node jobs list`"
            )
    return found


def _refused(now: Waiting) -> Iterator[str]:
    for name, refused in now.refused.items():
        yield (
            f"destination {name} has refused results (open jobs: {refused.jobs}): `dicom-node jobs"
            f" show {refused.first}` gives the reason, `jobs retry ID` retries"
        )
