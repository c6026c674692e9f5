"""``status`` and ``jobs``: what is queued, running, failed and why."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from dicom_node.cli.configuration import ConfigPath, read_settings
from dicom_node.cli.output import AsJson, moment, write_json, write_table
from dicom_node.ledger import history, operations
from dicom_node.ledger.engine import Ledger, open_ledger
from dicom_node.ledger.model import Job
from dicom_node.ledger.series import list_series
from dicom_node.ledger.states import JobState, SeriesState

JobId = Annotated[int, typer.Argument(metavar="ID", help="Number of the job.")]
SHOWN_SKIPPED = 5
"""How many of the skipped series `status` names; the newest."""


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(status)
    group = typer.Typer(help="List, show, retry or cancel jobs.", invoke_without_command=True)
    group.callback()(jobs_default)
    group.command("list")(jobs_list)
    group.command("show")(jobs_show)
    group.command("retry")(jobs_retry)
    group.command("cancel")(jobs_cancel)
    app.add_typer(group, name="jobs")


def status(config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Show how many series and jobs stand where."""
    with _ledger(config) as ledger:
        counts = operations.status(ledger)
        failed = operations.list_jobs(ledger, states=[JobState.FAILED, JobState.RETRY_WAIT])
        skipped = list_series(ledger, states=[SeriesState.SKIPPED], limit=SHOWN_SKIPPED)
    reasons = [{"series": item.series_uid, "reason": item.reason} for item in skipped]
    if as_json:
        write_json(
            {
                "series": {state.value: counts.series.get(state, 0) for state in SeriesState},
                "jobs": {state.value: counts.jobs.get(state, 0) for state in JobState},
                "oldest_open_at": counts.oldest_open_at,
                "failed": [_job(job) for job in failed],
                "skipped": reasons,
            }
        )
        return
    write_table(("series", ""), [(state, counts.series.get(state, 0)) for state in SeriesState])
    write_table(("jobs", ""), [(state, counts.jobs.get(state, 0)) for state in JobState])
    if counts.oldest_open_at is not None:
        typer.echo(f"The oldest open job is {time.time() - counts.oldest_open_at:.0f} s old.")
    for job in failed:
        typer.echo(f"job {job.id} {job.state}: {job.reason}")
    for item in skipped:
        typer.echo(f"series {item.series_uid} skipped: {item.reason}")


def jobs_default(context: typer.Context, config: ConfigPath = None) -> None:
    """List, show, retry or cancel jobs; alone: list."""
    if context.invoked_subcommand is None:
        jobs_list(config=config)


def jobs_list(
    state: Annotated[list[JobState] | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 50,
    config: ConfigPath = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with _ledger(config) as ledger:
        found = operations.list_jobs(ledger, states=state or (), limit=limit)
    if as_json:
        write_json([_job(job) for job in found])
    else:
        write_table(
            ("id", "state", "derived", "model", "tries", "changed", "reason"),
            [
                (
                    job.id,
                    job.state,
                    job.derived_count,
                    job.model,
                    job.attempts,
                    moment(job.updated_at),
                    job.reason,
                )
                for job in found
            ],
        )


def jobs_show(job_id: JobId, config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Show one job with its deliveries and history."""
    with _ledger(config) as ledger:
        job = operations.get_job(ledger, job_id)
        events = history.of_job(ledger, job_id)
    if as_json:
        write_json({**_job(job), "history": [_event(event) for event in events]})
        return
    write_table(("job", str(job.id)), [(key, value) for key, value in _job(job).items()])
    write_table(
        ("when", "from", "to", "by", "reason"),
        [(moment(item.at), item.before, item.after, item.owner, item.reason) for item in events],
    )


def jobs_retry(job_id: JobId, config: ConfigPath = None) -> None:
    """Try a failed, waiting or cancelled job again now."""
    with _ledger(config) as ledger:
        job = operations.retry(ledger, job_id, now=time.time())
    typer.echo(f"job {job.id} is {job.state}.")


def jobs_cancel(job_id: JobId, config: ConfigPath = None) -> None:
    """Give a job up; nothing is deleted, and `retry` takes it up again."""
    with _ledger(config) as ledger:
        job = operations.cancel(ledger, job_id, now=time.time())
    typer.echo(f"job {job.id} is {job.state}.")


@contextmanager
def _ledger(config: ConfigPath) -> Iterator[Ledger]:
    ledger = open_ledger(read_settings(config).database)
    try:
        yield ledger
    finally:
        ledger.close()


def _job(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "state": job.state.value,
        "reason": job.reason,
        "series": job.series_uid,
        "generation": job.generation,
        "derived": job.derived_count,
        "model": job.model,
        "strength": job.strength,
        "attempts": job.attempts,
        "deliveries": {item.destination: item.state.value for item in job.deliveries},
        "created_at": job.created_at,
        "updated_at": job.updated_at,
    }


def _event(event: history.Event) -> dict[str, Any]:
    return {
        "at": event.at,
        "from": event.before,
        "to": event.after,
        "by": event.owner,
        "reason": event.reason,
    }
