"""``jobs``: list, show, retry, cancel, pause and resume jobs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from dicom_node.cli.auditing import audited_ledger
from dicom_node.cli.configuration import ConfigPath, read_settings
from dicom_node.cli.output import AsJson, moment, write_json, write_table
from dicom_node.errors import ConfigurationError, InputError
from dicom_node.ledger import history, operations, pauses
from dicom_node.ledger.engine import Ledger, open_ledger
from dicom_node.ledger.model import Delivery, Job
from dicom_node.ledger.states import DeliveryState, JobState
from dicom_node.work_order import Priority

MAX_JOB_ID = (1 << 63) - 1
"""The databases' largest integer."""

MAX_LISTED = 1_000_000

JobId = Annotated[
    int, typer.Argument(metavar="ID", min=1, max=MAX_JOB_ID, help="Number of the job.")
]
Stage = Annotated[
    str | None,
    typer.Argument(
        metavar="[STAGE]", help="denoise, send or send:PEER; default: denoise and send."
    ),
]
ResumedStage = Annotated[
    str | None,
    typer.Argument(
        metavar="[STAGE]", help="denoise, send or send:PEER; default: all paused stages."
    ),
]
PRIORITIES = {priority: priority.name.lower().replace("_", "-") for priority in Priority}


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    group = typer.Typer(
        help="List, show, retry, cancel, pause or resume jobs.", invoke_without_command=True
    )
    group.callback()(jobs_default)
    group.command("list")(jobs_list)
    group.command("show")(jobs_show)
    group.command("retry")(jobs_retry)
    group.command("cancel")(jobs_cancel)
    group.command("pause")(jobs_pause)
    group.command("resume")(jobs_resume)
    app.add_typer(group, name="jobs")


def jobs_default(context: typer.Context, config: ConfigPath = None) -> None:
    """List, show, retry, cancel, pause or resume jobs; without a command, list them."""
    if context.invoked_subcommand is None:
        jobs_list(config=config)


def jobs_list(
    state: Annotated[
        list[JobState] | None, typer.Option(help="Only jobs in this state; may be repeated.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=MAX_LISTED, help="Maximum number of jobs, newest first.")
    ] = 50,
    config: ConfigPath = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with _ledger(config) as ledger:
        found = operations.list_jobs(ledger, states=state or (), limit=limit)
    if as_json:
        write_json([job_document(job) for job in found])
    else:
        write_table(
            ("id", "state", "priority", "derived", "model", "sent to", "changed", "reason"),
            [
                (
                    job.id,
                    job.state,
                    PRIORITIES[job.priority],
                    job.derived_count,
                    job.model,
                    _confirmed(job),
                    moment(job.updated_at),
                    job.reason,
                )
                for job in found
            ],
        )


def jobs_show(job_id: JobId, config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Show a job with its deliveries and history."""
    with _ledger(config) as ledger:
        job = operations.get_job(ledger, job_id)
        events = history.of_job(ledger, job_id)
    if as_json:
        write_json({**job_document(job), "history": [_event(event) for event in events]})
        return
    about = {key: value for key, value in job_document(job).items() if key != "deliveries"}
    about |= {"created_at": moment(job.created_at), "updated_at": moment(job.updated_at)}
    write_table(("job", str(job.id)), list(about.items()))
    write_table(
        ("destination", "state", "stored", "attempts", "next", "reason"),
        [
            (
                item.destination,
                item.state,
                f"{item.confirmed} of {item.derived_count}",
                item.attempts + item.waits,
                _next(item),
                item.reason,
            )
            for item in job.deliveries
        ],
    )
    write_table(
        ("when", "what", "from", "to", "by", "reason"),
        [
            (
                moment(item.at),
                item.destination or "job",
                item.before,
                item.after,
                item.owner,
                item.reason,
            )
            for item in events
        ],
    )


def jobs_retry(job_id: JobId, config: ConfigPath = None) -> None:
    """Retry a failed, waiting or cancelled job now."""
    with audited_ledger(config, "jobs retry", f"job/{job_id}") as ledger:
        job = operations.retry(ledger, job_id, now=time.time())
    typer.echo(f"Job {job.id} is {job.state}.")


def jobs_cancel(job_id: JobId, config: ConfigPath = None) -> None:
    """Cancel a job; nothing is deleted, and `retry` resumes it."""
    with audited_ledger(config, "jobs cancel", f"job/{job_id}") as ledger:
        job = operations.cancel(ledger, job_id, now=time.time())
    typer.echo(f"Job {job.id} is {job.state}.")


def jobs_pause(
    stage: Stage = None,
    reason: Annotated[
        str, typer.Option(help="The reason, shown by `status`.")
    ] = "paused by an operator",
    config: ConfigPath = None,
) -> None:
    """Pause a stage: running work is finished, nothing new is started."""
    if stage is not None:
        _check_stage(stage, config)
    with audited_ledger(config, "jobs pause", f"stage/{','.join(_stages(stage))}") as ledger:
        for name in _stages(stage):
            pauses.pause(ledger, name, reason=reason, now=time.time())
            typer.echo(f"Stage {name} is paused.")


def jobs_resume(stage: ResumedStage = None, config: ConfigPath = None) -> None:
    """Resume a paused stage; without STAGE, all paused stages."""
    with audited_ledger(config, "jobs resume", f"stage/{stage or 'all'}") as ledger:
        paused = [item.stage for item in pauses.list_pauses(ledger)]
        if stage is not None and stage not in paused:  # its peer may have been removed since
            _check_stage(stage, config)
        for name in paused if stage is None else [stage]:
            was = pauses.resume(ledger, name)
            typer.echo(f"Stage {name} is resumed." if was else f"Stage {name} was not paused.")
    if stage is None and not paused:
        typer.echo("No stage was paused.")


def _check_stage(stage: str, config: Path | None) -> None:
    """Refuse a stage that does not exist, an empty one included: a variable may be unset."""
    try:
        pauses.check_stage(stage)
    except InputError as error:
        raise ConfigurationError(str(error)) from error
    _, _, peer = stage.partition(":")
    if peer:
        read_settings(config).peer(peer)


@contextmanager
def _ledger(config: ConfigPath) -> Iterator[Ledger]:
    ledger = open_ledger(read_settings(config).database)
    try:
        yield ledger
    finally:
        ledger.close()


_WAITING = (DeliveryState.PENDING, DeliveryState.COMMITTING)


def _next(item: Delivery) -> str:
    if item.state not in _WAITING:
        return ""
    return moment(item.next_at) if item.next_at > operations.AT_ONCE else "at once"


def _stages(stage: str | None) -> tuple[str, ...]:
    return ("denoise", "send") if stage is None else (stage,)


def _confirmed(job: Job) -> str:
    done = [item for item in job.deliveries if item.state == DeliveryState.CONFIRMED]
    return f"{len(done)} of {len(job.deliveries)}"


def job_document(job: Job) -> dict[str, Any]:
    """Return a job as a JSON document."""
    return {
        "id": job.id,
        "state": job.state.value,
        "reason": job.reason,
        "series": job.series_uid,
        "generation": job.generation,
        "priority": PRIORITIES[job.priority],
        "rule": job.rule,
        "gap": job.gap,
        "derived": job.derived_count,
        "model": job.model,
        "strength": job.strength,
        "dose_gain": job.dose_gain,
        "target_noise_hu": job.target_noise_hu,
        "measured_gain": job.measured_gain,
        "gain_basis": job.gain_basis,
        "attempts": job.attempts,
        "deliveries": {item.destination: _delivery(item) for item in job.deliveries},
        "created_at": job.created_at,
        "updated_at": job.updated_at,
    }


def _delivery(delivery: Delivery) -> dict[str, Any]:
    return {
        "state": delivery.state.value,
        "stored": delivery.confirmed,
        "attempts": delivery.attempts + delivery.waits,
        "next_at": delivery.next_at,
        "reason": delivery.reason,
    }


def _event(event: history.Event) -> dict[str, Any]:
    return {
        "at": event.at,
        "destination": event.destination,
        "from": event.before,
        "to": event.after,
        "by": event.owner,
        "reason": event.reason,
    }
