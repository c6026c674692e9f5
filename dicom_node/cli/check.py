"""``check``: run all checks in order and report a verdict on each."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.checkup import exposure, machine, peers, ports, store_trial, work
from dicom_node.checkup.verdict import FAILED, OK, Checks, Verdict, run_check
from dicom_node.cli.configuration import DEFAULT, ConfigPath, read_settings
from dicom_node.cli.output import AsJson, write_json, write_table
from dicom_node.settings import Settings


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(check)


def check(
    store: Annotated[
        list[str] | None,
        typer.Option(metavar="PEER", help="Store a tiny test image at this peer; may be repeated."),
    ] = None,
    config: ConfigPath = None,
    as_json: AsJson = False,
) -> None:
    """Check everything the node needs: disk, database, queue, rules, model, ports and peers."""
    settings = read_settings(config)
    verdicts = [Verdict("configuration", OK, str(config or Path("node.yaml and environment")))]
    verdicts += [run_check(item) for item in _checks(settings, store or [])]
    verdicts += [run_check(item) for item in exposure.checks(settings, config or DEFAULT)]
    if as_json:
        write_json([asdict(verdict) for verdict in verdicts])
    else:
        rows = [(item.what, item.verdict, item.detail) for item in verdicts]
        write_table(("check", "verdict", "detail"), rows)
    if any(item.verdict == FAILED for item in verdicts):
        raise typer.Exit(1)


def _checks(settings: Settings, store: list[str]) -> Checks:
    yield from machine.checks(settings)
    yield from work.checks(settings)
    yield from ports.checks(settings)
    yield from peers.checks(settings)
    yield from store_trial.checks(settings, store)
