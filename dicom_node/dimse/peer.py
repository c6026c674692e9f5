"""Address of another DICOM system, as the network code needs it."""

from __future__ import annotations

from typing import Protocol


class Peer(Protocol):
    """Another DICOM system, as the configuration names it."""

    @property
    def name(self) -> str:
        """Its name in configuration and commands."""

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
    """Name a peer in a message: name, AE title and address."""
    return f"{peer.name} ({peer.ae_title} at {peer.host}:{peer.port})"
