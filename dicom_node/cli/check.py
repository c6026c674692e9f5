"""The command itself: what is tried, in which order, and how it is told."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.checkup import door, machine, neighbours, privacy, trial, work
from dicom_node.checkup.verdict import FAILED, OK, Attempts, Verdict, judge
from dicom_node.cli.configuration import DEFAULT, ConfigPath, read_settings
from dicom_node.cli.output import AsJson, write_json, write_table
from dicom_node.settings import Settings


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(check)


def check(
    store: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PEER", help="Really store a tiny test image at this peer; may be repeated."
        ),
    ] = None,
    config: ConfigPath = None,
    as_json: AsJson = False,
) -> None:
    """Try everything the node needs: disk, database, queue, rules, model, ports and peers."""
    settings = read_settings(config)
    verdicts = [Verdict("configuration", OK, str(config or Path("node.yaml and environment")))]
    verdicts += [judge(attempt) for attempt in _attempts(settings, store or [])]
    verdicts += [judge(attempt) for attempt in privacy.attempts(settings, config or DEFAULT)]
    if as_json:
        write_json([asdict(verdict) for verdict in verdicts])
    else:
        rows = [(item.what, item.verdict, item.detail) for item in verdicts]
        write_table(("what", "verdict", "detail"), rows)
    if any(item.verdict == FAILED for item in verdicts):
        raise typer.Exit(1)


def _attempts(settings: Settings, store: list[str]) -> Attempts:
    yield from machine.attempts(settings)
    yield from work.attempts(settings)
    yield from door.attempts(settings)
    yield from neighbours.attempts(settings)
    yield from trial.attempts(settings, store)
