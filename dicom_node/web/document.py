"""Status document for ``/api/status`` and the page, without any identifier of a patient.

A series is identified by the short hash that the logs use.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dicom_node.health import Snapshot, find_problems, health_document
from dicom_node.health.snapshot import Queues
from dicom_node.ledger.model import Job
from dicom_node.ledger.pauses import Pause
from dicom_node.ledger.series import Series
from dicom_node.ledger.states import DeliveryState, JobState, SeriesState
from dicom_node.logs import short_hash
from dicom_node.product import PRODUCT_VERSION

Document = dict[str, Any]


def status_document(snapshot: Snapshot, *, ae_title: str) -> Document:
    """Return everything that is displayed as JSON values; ages are in seconds."""
    queues = snapshot.queues
    return {
        "ae_title": ae_title,
        "version": PRODUCT_VERSION,
        "at": datetime.fromtimestamp(snapshot.at, UTC).isoformat(timespec="seconds"),
        **health_document(find_problems(snapshot)),
        "disk": {
            "free_bytes": snapshot.disk_free,
            "total_bytes": snapshot.disk_total,
            "reserve_bytes": snapshot.disk_reserve,
        },
        "unknown": {"images": snapshot.unknown_images, "results": snapshot.unknown_results},
        "parts": {part: round(age, 1) for part, age in snapshot.silent_seconds.items()},
        "sweeps": {sweep.name: round(sweep.silent_seconds, 1) for sweep in snapshot.sweeps},
        "certificates": {name: round(days, 1) for name, days in snapshot.certificate_days.items()},
        **(_queues(queues, snapshot.at) if queues is not None else {}),
    }


def _queues(queues: Queues, now: float) -> Document:
    counts, waiting = queues.counts, queues.waiting
    return {
        "series": {state.value: counts.series.get(state, 0) for state in SeriesState},
        "jobs": {state.value: counts.jobs.get(state, 0) for state in JobState},
        "deliveries": {
            name: {state.value: states.get(state, 0) for state in DeliveryState}
            for name, states in counts.deliveries.items()
        },
        "paused": [_pause(pause) for pause in counts.pauses],
        "waiting_seconds": {
            "arriving": _age(waiting.arriving, now),
            "denoise": _age(waiting.denoise, now),
            "off_peak": _age(waiting.off_peak, now),
            "send": {name: _age(since, now) for name, since in waiting.send.items()},
            "commit": {name: _age(since, now) for name, since in waiting.commit.items()},
            "reports": {name: _age(since, now) for name, since in waiting.reports.items()},
        },
        "troubled": [_job(job) for job in queues.troubled],
        "skipped": [_series(series) for series in queues.skipped],
    }


def _age(since: float | None, now: float) -> float | None:
    return None if since is None else round(max(0.0, now - since), 1)


def _job(job: Job) -> Document:
    return {
        "id": job.id,
        "series": short_hash(job.series_uid),
        "state": job.state.value,
        "reason": job.reason,
        "attempts": job.attempts,
        "model": job.model,
        "deliveries": {item.destination: item.state.value for item in job.deliveries},
        "changed_at": datetime.fromtimestamp(job.updated_at, UTC).isoformat(timespec="seconds"),
    }


def _pause(pause: Pause) -> Document:
    return {
        "stage": pause.stage,
        "reason": pause.reason,
        "since": datetime.fromtimestamp(pause.since, UTC).isoformat(timespec="seconds"),
    }


def _series(series: Series) -> Document:
    return {"series": short_hash(series.series_uid), "reason": series.reason}
