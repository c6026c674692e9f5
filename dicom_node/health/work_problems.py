"""Problems of the work: failed, or waiting longer than the settings allow."""

from __future__ import annotations

from collections.abc import Iterator

from dicom_node.health.ages import age_in_words
from dicom_node.health.snapshot import Snapshot
from dicom_node.ledger.states import JobState


def failed_jobs(snapshot: Snapshot) -> Iterator[str]:
    """Report failed jobs, and failed deliveries of jobs that are still open."""
    count = snapshot.queues.counts.jobs.get(JobState.FAILED, 0) if snapshot.queues else 0
    if count:
        what = "1 job has failed and waits" if count == 1 else f"{count} jobs have failed and wait"
        yield (
            f"{what} for a person: `dicom-node jobs list --state FAILED` says why; then"
            " `dicom-node jobs retry ID` or `dicom-node jobs cancel ID`."
        )
    refused = snapshot.queues.waiting.refused if snapshot.queues else {}
    for name, kept in refused.items():
        results = "1 job" if kept.jobs == 1 else f"{kept.jobs} jobs"
        yield (
            f"{name} has not accepted the results of {results}, which are not sent again by"
            " themselves:"
            f" `dicom-node jobs show {kept.first}` says why; then `dicom-node jobs retry ID`."
        )


def series_late(snapshot: Snapshot) -> Iterator[str]:
    """Report a series that is not complete in time."""
    since = snapshot.queues.waiting.arriving if snapshot.queues else None
    if _is_late(snapshot, since, snapshot.arriving_limit_seconds):
        yield (
            f"A series has been arriving for {_age(snapshot, since)}: see the log of `dicom-node"
            " serve`."
        )


def denoising_late(snapshot: Snapshot) -> Iterator[str]:
    """Report a job without results."""
    if snapshot.queues is None:
        return
    waiting, limits = snapshot.queues.waiting, snapshot.limits
    for what, since, limit in (
        ("A job", waiting.denoise, limits.denoise_seconds),
        ("An off-peak job", waiting.off_peak, limits.off_peak_seconds),
    ):
        if _is_late(snapshot, since, limit):
            yield (
                f"{what} has waited {_age(snapshot, since)} for its results: see whether the worker"
                " runs and keeps up, and `dicom-node jobs list`."
            )


def sending_late(snapshot: Snapshot) -> Iterator[str]:
    """Report results that a destination has not received."""
    send = snapshot.queues.waiting.send if snapshot.queues else {}
    for name, since in send.items():
        if _is_late(snapshot, since, snapshot.limits.send_seconds):
            yield (
                f"Results for {name} have waited {_age(snapshot, since)}: `dicom-node echo {name}`"
                " tests the connection, `dicom-node status` gives the reason."
            )


def commitments_late(snapshot: Snapshot) -> Iterator[str]:
    """Report a storage commitment without an answer, by a destination or by this node."""
    if snapshot.queues is None:
        return
    waiting, limit = snapshot.queues.waiting, snapshot.limits.commitment_seconds
    for name, since in waiting.commit.items():
        if _is_late(snapshot, since, limit):
            yield (
                f"{name} was asked {_age(snapshot, since)} ago to commit to results and has not"
                " reported: see whether its storage commitment can call this node back."
            )
    for title, since in waiting.reports.items():
        if _is_late(snapshot, since, limit):
            yield (
                f"{title} has waited {_age(snapshot, since)} for a report on storage commitment:"
                " see whether this node can call it, and the log of `dicom-node deliver`."
            )


def paused_long(snapshot: Snapshot) -> Iterator[str]:
    """Report a pause that an operator may have forgotten."""
    pauses = snapshot.queues.counts.pauses if snapshot.queues else ()
    for pause in pauses:
        if _is_late(snapshot, pause.since, snapshot.limits.paused_seconds):
            yield (
                f"{pause.stage} has been paused for {_age(snapshot, pause.since)}:"
                f" `dicom-node jobs resume {pause.stage}` ends the pause."
            )


def _is_late(snapshot: Snapshot, since: float | None, limit: float) -> bool:
    return since is not None and snapshot.at - since > limit


def _age(snapshot: Snapshot, since: float | None) -> str:
    return age_in_words(snapshot.at - (since or 0.0))
