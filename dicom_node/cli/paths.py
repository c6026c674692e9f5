"""Files and folders that the caller of a command names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from dicom_node.cli.output import printable
from dicom_node.errors import ConfigurationError


def check_given(paths: Iterable[Path]) -> None:
    """Check that the files and folders of a command are there.

    Raises:
        ConfigurationError: One is not.
    """
    for path in paths:
        if not os.path.lexists(path):
            raise ConfigurationError(
                f"There is no file or folder {printable(str(path))}: give one that is there."
            )
