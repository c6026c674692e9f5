"""The application: all commands together, and the handling of errors."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Final

import typer

import dicom_node
from dicom_node.cli.file_modes import keep_files_private
from dicom_node.ct import prepare_dicom_libraries
from dicom_node.errors import NodeError
from dicom_node.logs import log_to_stderr
from dicom_node.product import PRODUCT_VERSION

UNEXPECTED = 1
INTERRUPTED = 130

GROUPS: Final = {
    "processes": ("init", "start", "receive", "work", "deliver", "serve"),
    "check": ("check",),
    "status": ("status",),
    "jobs": ("jobs",),
    "unknown": ("adopt", "unknown"),
    "rules": ("rules",),
    "denoise": ("denoise",),
    "models": ("models",),
    "noise_reference": ("noise-reference",),
    "peers": ("echo", "send"),
    "demo": ("demo",),
}
"""Commands of each module, in the order of the help."""


def application(arguments: Sequence[str] = ()) -> typer.Typer:
    """Build the application.

    Args:
        arguments: Arguments of the program. Where the first is a command, only its module is
            loaded, which takes half the time; otherwise all are.
    """
    app = typer.Typer(
        name="dicom-node",
        help="A DICOM node that denoises low-dose CT series and sends the result back.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    named = [group for group, commands in GROUPS.items() if {*arguments[:1]} & {*commands}]
    for group in named or GROUPS:
        import_module(f"dicom_node.cli.{group}").register(app)
    return app


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"dicom-node {PRODUCT_VERSION}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Options that come before any command."""


def main() -> None:
    """Run the command in ``sys.argv`` and end the process with its exit code."""
    keep_files_private()
    _let_idle_threads_sleep()
    prepare_dicom_libraries()
    _silence_warnings()
    log_to_stderr()
    try:
        application(sys.argv[1:])(prog_name="dicom-node")
    except NodeError as error:
        typer.echo(f"dicom-node: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # before typer has begun to handle it
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of the output, such as `head`, has ended
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        typer.echo(f"dicom-node: {_unexpected(error)}", err=True)
        sys.exit(UNEXPECTED)


def _let_idle_threads_sleep() -> None:
    """Let threads of OpenMP sleep between two loops; it reads this once, when torch is loaded.

    By default they wait in a busy loop, which took a fifth of the processor time of a series from
    the threads that read, check and write it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def _silence_warnings() -> None:
    """Silence warnings: pydicom's quote header values, such as a name or a date of birth."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _unexpected(error: Exception) -> str:
    """Place and type of an unexpected error; not its text, which may hold a patient's data."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if Path(dicom_node.__file__).parent in Path(frame.filename).parents
    ]
    place = f"{Path(own[-1].filename).name} line {own[-1].lineno}" if own else "an unknown place"
    return f"An unexpected {type(error).__name__} occurred in {place}: please report it."
