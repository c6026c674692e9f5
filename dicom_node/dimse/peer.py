"""What the network needs to know of another DICOM system."""

from __future__ import annotations

from typing import Protocol


class Peer(Protocol):
    """Another DICOM system, as the configuration names it."""

    @property
    def name(self) -> str:
        """How the configuration and the commands call it."""

    @property
    def ae_title(self) -> str:
        """Its application entity title."""

    @property
    def host(self) -> str:
        """Host name or address."""

    @property
    def port(self) -> int:
        """TCP port of its DICOM listener."""


def describe(peer: Peer) -> str:
    """How a sentence names a peer: name, AE title and address."""
    return f"{peer.name} ({peer.ae_title} at {peer.host}:{peer.port})"
