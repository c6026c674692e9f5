"""``adopt`` and ``unknown``: join ledger and storage, and handle files in no ledger."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from dicom_node.cli.auditing import audited
from dicom_node.cli.configuration import ConfigPath, read_settings, source_title
from dicom_node.cli.output import AsJson, moment, write_json, write_table
from dicom_node.custody import Custody, set_aside_unknown
from dicom_node.errors import ConfigurationError, StorageError
from dicom_node.ledger.arrivals import Recorded
from dicom_node.ledger.engine import open_ledger
from dicom_node.receiving.reingest import DAMAGED, reingest
from dicom_node.settings import Settings
from dicom_node.store.unknown import Unknown

SECONDS_PER_DAY = 86_400.0

MIN_AGE_SECONDS = 60.0
"""A younger file in the inbox may belong to a receiver that is about to record it."""

Confirmed = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(adopt)
    group = typer.Typer(
        help="Handle images and results that are in no ledger.", no_args_is_help=True
    )
    group.command("list")(unknown_list)
    group.command("take-in")(unknown_take_in)
    group.command("discard")(unknown_discard)
    app.add_typer(group, name="unknown")


def adopt(yes: Confirmed = False, config: ConfigPath = None) -> None:
    """Join this ledger and this storage folder after one of them was lost or replaced."""
    with _custody(config) as (custody, settings):
        fault = custody.fault()
        if not fault:
            typer.echo("The ledger and the storage folder belong together already.")
            return
        typer.echo(fault)
        _confirm(yes, "Join them?")
        with audited(settings, "adopt", "storage"):
            custody.adopt()
        typer.echo(f"The ledger and {settings.storage} now belong together.")
    typer.echo("To record files that are not in the ledger, run `dicom-node unknown take-in`.")


def unknown_list(config: ConfigPath = None, as_json: AsJson = False) -> None:
    """List images and results that are in no ledger, and when they will be deleted."""
    settings = read_settings(config)
    unknown = Unknown(settings.unknown_folder)
    days = settings.retention.days * SECONDS_PER_DAY
    series: dict[str, list[float]] = {}
    for name in unknown.names():
        series.setdefault(name.partition("/")[0], []).append(unknown.set_at(name))
    rows = [(f"inbox/{name}", len(ages), min(ages) + days) for name, ages in series.items()]
    rows += [
        (f"outbox/{token}", unknown.result_count(token), unknown.result_set_at(token) + days)
        for token in unknown.tokens()
    ]
    if as_json:
        keys = ("folder", "images", "deleted_at")
        write_json([dict(zip(keys, row, strict=True)) for row in rows])
    elif not rows:
        typer.echo(
            f"{unknown.root} is empty. The node moves files that are in no ledger there after an"
            " hour; `dicom-node unknown take-in` looks for them at once."
        )
    else:
        table = [(name, count, moment(deleted_at)) for name, count, deleted_at in rows]
        write_table(("folder", "images", "deleted after"), table, title=str(unknown.root))


def unknown_take_in(
    source: Annotated[
        str,
        typer.Option(
            metavar="AE", callback=source_title, help="AE title to record as their sender."
        ),
    ] = "",
    config: ConfigPath = None,
) -> None:
    """Record images that are in no ledger as if they had just been received."""
    settings = read_settings(config)
    with audited(settings, "unknown take-in", "unknown"), _custody(config) as (custody, _):
        set_aside_unknown(custody, settings, before=time.time() - MIN_AGE_SECONDS)
        done = reingest(custody, settings, source_ae=source)
    aside = done[Recorded.CONFLICT] + done[Recorded.OTHER_STUDY]
    typer.echo(
        f"Images taken in: {done[Recorded.NEW]}; known already: {done[Recorded.DUPLICATE]}; put"
        f" into quarantine: {aside}; damaged: {done[DAMAGED]}."
    )
    if done[DAMAGED]:
        raise StorageError(
            f"{done[DAMAGED]} images are damaged and stay in {settings.unknown_folder}: have them"
            " sent again."
        )


def unknown_discard(yes: Confirmed = False, config: ConfigPath = None) -> None:
    """Delete all images and results that are in no ledger."""
    settings = read_settings(config)
    unknown = Unknown(settings.unknown_folder)
    names, tokens = unknown.names(), unknown.tokens()
    typer.echo(f"{unknown.root} holds {len(names)} images and {len(tokens)} results.")
    if not (names or tokens):
        return
    _confirm(yes, "Delete them permanently?")
    with audited(settings, "unknown discard", "unknown"):
        for name in names:
            unknown.discard_image(name)
        for token in tokens:
            unknown.discard_result(token)
    typer.echo("They have been deleted.")


def _confirm(yes: bool, question: str) -> None:
    try:
        confirmed = yes or typer.confirm(question)
    except typer.Abort as error:
        raise ConfigurationError(
            "Nothing was changed: answer the question, or give --yes where there is no terminal."
        ) from error
    if not confirmed:
        raise ConfigurationError("Nothing was changed.")


@contextmanager
def _custody(config: ConfigPath) -> Iterator[tuple[Custody, Settings]]:
    settings = read_settings(config)
    ledger = open_ledger(settings.database)
    try:
        yield Custody(ledger, settings), settings
    finally:
        ledger.close()
