"""Checks of exposure: file modes, open access, secrets sent without encryption."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dicom_node.checkup.verdict import Checks, CheckWarning
from dicom_node.settings import Settings
from dicom_node.settings.exposure import (
    open_listeners,
    plain_secrets,
    readable_files,
    readable_secrets,
)


def checks(settings: Settings, config: Path) -> Checks:
    """Generate the checks of file modes, unrestricted senders, and unencrypted secrets."""
    yield "private files", lambda: _none(_readable(settings, config), "Nobody else can read them.")
    yield (
        "open doors",
        lambda: _none(
            open_listeners(settings), "Only systems named in the configuration have access."
        ),
    )
    yield "secrets", lambda: _none(plain_secrets(settings), "None is sent without encryption.")


def _readable(settings: Settings, config: Path) -> Iterator[str]:
    yield from readable_files(settings)
    yield from readable_secrets(config)


def _none(found: Iterator[str], otherwise: str) -> str:
    sentences = list(found)
    if sentences:
        raise CheckWarning(" ".join(sentences))
    return otherwise
