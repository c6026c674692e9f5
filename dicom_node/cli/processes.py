"""Commands that run the node or one part of it, and ``init``, which writes its configuration."""

from __future__ import annotations

import socket
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.configuration import ConfigPath, read_settings
from dicom_node.cli.file_modes import modes_of_the_caller
from dicom_node.cli.signals import ReloadFlag, StopFlag
from dicom_node.errors import ConfigurationError, NodeError, StorageError
from dicom_node.logs import configure_logging, get_logger
from dicom_node.processes.node import run_node
from dicom_node.processes.parts import run_part
from dicom_node.processes.receivers import run_receivers
from dicom_node.settings import Settings

TEMPLATES = ("node.yaml", "rules.yaml")

Supervised = Annotated[bool, typer.Option("--supervised", hidden=True)]
Listener = Annotated[int | None, typer.Option("--listener", hidden=True)]

log = get_logger(__name__)


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    for command in (init, start, receive, work, deliver, serve):
        app.command()(command)


def init(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder to write them to."),
    ] = Path(),
) -> None:
    """Write a commented node.yaml and rules.yaml as a starting point."""
    existing = [name for name in TEMPLATES if (folder / name).exists()]
    if existing:
        raise ConfigurationError(
            f"{folder / existing[0]} exists already and is left unchanged: name another folder."
        )
    try:
        with (
            modes_of_the_caller()
        ):  # the node often runs as another user than the one who writes these
            _write_templates(folder)
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written ({error.strerror}): name another folder."
        ) from error
    typer.echo("Next, enter your PACS in node.yaml and run `dicom-node check`.")


def _write_templates(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in TEMPLATES:
        text = resources.files("dicom_node.templates").joinpath(name).read_text("utf-8")
        (folder / name).write_text(text, encoding="utf-8")
        typer.echo(f"Wrote {folder / name}.")


def start(config: ConfigPath = None, supervised: Supervised = False) -> None:
    """Run the whole node in the foreground; SIGTERM drains and stops it."""
    settings = read_settings(config)
    configure_logging(settings.logging, process="node")
    flag, reload = StopFlag(supervised=supervised), ReloadFlag()
    _logged(lambda: run_node(config, settings, should_stop=flag, should_reload=reload))


def receive(
    config: ConfigPath = None, supervised: Supervised = False, listener: Listener = None
) -> None:
    """Run only the receiver, in as many processes as `listen.processes` says."""
    if listener is not None or read_settings(config).listen.processes == 1:
        _run_part("receive", config, supervised, listener)
        return
    settings = read_settings(config)
    configure_logging(settings.logging, process="receivers")
    flag, _ = StopFlag(supervised=supervised), ReloadFlag()
    _logged(lambda: run_receivers(config, settings, should_stop=flag))


def work(config: ConfigPath = None, supervised: Supervised = False) -> None:
    """Run only a worker, which denoises."""
    _run_part("work", config, supervised)


def deliver(config: ConfigPath = None, supervised: Supervised = False) -> None:
    """Run only the sender, which delivers derived series."""
    _run_part("deliver", config, supervised)


def serve(config: ConfigPath = None, supervised: Supervised = False) -> None:
    """Run only the housekeeping and the web pages."""
    _run_part("serve", config, supervised)


def _run_part(
    command: str, config: Path | None, supervised: bool, listener: int | None = None
) -> None:
    settings: Settings = read_settings(config)
    configure_logging(settings.logging, process=command)
    flag, reload = StopFlag(supervised=supervised), ReloadFlag()
    shared = None if listener is None else socket.socket(fileno=listener)
    _logged(
        lambda: run_part(command, settings, should_stop=flag, should_reload=reload, listener=shared)
    )


def _logged(body: Callable[[], None]) -> None:
    """Run the body of a process; log an unexpected error with its place."""
    try:
        body()
    except NodeError:
        raise
    except Exception:
        log.critical("the process ended by an unexpected error", exc_info=True)
        raise typer.Exit(1) from None
