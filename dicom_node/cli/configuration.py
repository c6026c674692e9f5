"""How commands find the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.privacy import share_files
from dicom_node.errors import ConfigurationError
from dicom_node.settings import Settings, load_settings

DEFAULT = Path("node.yaml")

ConfigPath = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Configuration; default: node.yaml in this folder."),
]


def read_settings(config: Path | None) -> Settings:
    """The configuration a command was given, or that of the working directory.

    From here on the command's files are shared as ``storage_access`` says.

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
