"""Who could see or send what should be kept apart: files, doors, secrets on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dicom_node.checkup.verdict import Attempts, Doubt
from dicom_node.settings import Settings
from dicom_node.settings.exposure import open_door, plain_secrets, readable_files, readable_secrets


def attempts(settings: Settings, config: Path) -> Attempts:
    """Private files, senders that nobody named, secrets without encryption."""
    yield "private files", lambda: _none(_readable(settings, config), "nobody else can read them")
    yield "open doors", lambda: _none(open_door(settings), "only whom the configuration names")
    yield "secrets", lambda: _none(plain_secrets(settings), "none goes unencrypted")


def _readable(settings: Settings, config: Path) -> Iterator[str]:
    yield from readable_files(settings)
    yield from readable_secrets(config)


def _none(found: Iterator[str], otherwise: str) -> str:
    sentences = list(found)
    if sentences:
        raise Doubt(" ".join(sentences))
    return otherwise
