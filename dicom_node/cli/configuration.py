"""The configuration option of the commands, and its default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.file_modes import share_files
from dicom_node.errors import ConfigurationError
from dicom_node.settings import Settings, load_settings
from dicom_node.settings.values import check_ae_title

DEFAULT = Path("node.yaml")

ConfigPath = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="Configuration file; default: node.yaml in the current folder."
    ),
]


def source_title(value: str) -> str:
    """Check an option that names a sender; empty for none."""
    try:
        return check_ae_title(value) if value else ""
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from error


def read_settings(config: Path | None) -> Settings:
    """Load the configuration given to a command, or that of the working directory.

    From then on the files of the command have the modes that ``storage_access`` demands.

    Raises:
        ConfigurationError: It is missing or wrong.
    """
    try:
        settings = load_settings(config)
    except ConfigurationError as error:
        if config is None and not DEFAULT.exists():
            raise ConfigurationError(
                f"There is no {DEFAULT} in this folder: name one with -c, or write one with"
                " `dicom-node init`."
            ) from error
        raise
    share_files(settings.storage_access)
    return settings
