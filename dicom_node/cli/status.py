"""``status``: troubles of the node, and counts and ages of its series, jobs and deliveries."""

from __future__ import annotations

import time
from contextlib import closing
from functools import partial
from typing import Any

import typer

from dicom_node.cli.configuration import ConfigPath, read_settings
from dicom_node.cli.jobs import job_document
from dicom_node.cli.output import AsJson, moment, write_json, write_table
from dicom_node.health import Snapshot, find_problems, health_document, take_snapshot
from dicom_node.ledger import measures, operations, pauses
from dicom_node.ledger.engine import Ledger, open_ledger
from dicom_node.ledger.series import list_series
from dicom_node.ledger.states import DeliveryState, JobState, SeriesState
from dicom_node.processes.observation import certificate_days
from dicom_node.settings import Settings

MAX_SKIPPED_SERIES = 5
"""Skipped series that are listed, the newest."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


def status(config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Show troubles, the states of series and jobs, and waiting or paused work."""
    settings = read_settings(config)
    with closing(open_ledger(settings.database)) as ledger:
        problems = find_problems(_snapshot(settings, ledger))
        counts, waiting = operations.status(ledger), measures.waiting(ledger)
        failed = operations.list_jobs(ledger, states=[JobState.FAILED, JobState.RETRY_WAIT])
        skipped = list_series(ledger, states=[SeriesState.SKIPPED], limit=MAX_SKIPPED_SERIES)
    if as_json:
        write_json(
            {
                **health_document(problems),
                **_counts(counts),
                "oldest_open_at": counts.oldest_open_at,
                "waiting_since": {
                    "arriving": waiting.arriving,
                    "denoise": waiting.denoise,
                    "off_peak": waiting.off_peak,
                    "send": waiting.send,
                    "commit": waiting.commit,
                    "reports": waiting.reports,
                },
                "paused": [_pause(item) for item in counts.pauses],
                "failed": [job_document(job) for job in failed],
                "skipped": [{"series": item.series_uid, "reason": item.reason} for item in skipped],
            }
        )
        return
    for problem in problems:
        typer.echo(problem.text)
    _write_counts(counts)
    _write_ages(waiting)
    for item in counts.pauses:
        typer.echo(f"Stage {item.stage} has been paused since {moment(item.since)}: {item.reason}")
    for job in failed:
        typer.echo(f"Job {job.id} is {job.state}: {job.reason}")
    for series in skipped:
        typer.echo(f"Series {series.series_uid} was skipped: {series.reason}")


def _snapshot(settings: Settings, ledger: Ledger) -> Snapshot:
    days = partial(certificate_days, settings)
    return take_snapshot(settings, ledger, certificate_days=days, now=time.time())


def _write_counts(counts: operations.LedgerStatus) -> None:
    write_table(("series", ""), [(state, counts.series.get(state, 0)) for state in SeriesState])
    write_table(("jobs", ""), [(state, counts.jobs.get(state, 0)) for state in JobState])
    if counts.deliveries:
        write_table(
            ("deliveries", *DeliveryState),
            [
                (name, *(states.get(state, 0) for state in DeliveryState))
                for name, states in counts.deliveries.items()
            ],
        )


def _write_ages(waiting: measures.Waiting) -> None:
    ages = {
        "series that is not complete": waiting.arriving,
        "job that is not denoised": waiting.denoise,
        "off-peak job that is not denoised": waiting.off_peak,
        **{f"result that {name} has not received": since for name, since in waiting.send.items()},
    }
    for what, since in ages.items():
        if since is not None:
            typer.echo(f"The oldest {what} has waited {max(0.0, time.time() - since):.0f} s.")


def _counts(counts: operations.LedgerStatus) -> dict[str, Any]:
    return {
        "series": {state.value: counts.series.get(state, 0) for state in SeriesState},
        "jobs": {state.value: counts.jobs.get(state, 0) for state in JobState},
        "deliveries": {
            name: {state.value: states.get(state, 0) for state in DeliveryState}
            for name, states in counts.deliveries.items()
        },
    }


def _pause(pause: pauses.Pause) -> dict[str, Any]:
    return {"stage": pause.stage, "since": pause.since, "reason": pause.reason}
