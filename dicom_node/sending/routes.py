"""Routes to the configured peers: C-STORE or STOW-RS, with or without TLS and commitment."""

from __future__ import annotations

import ssl
from collections.abc import Collection, Sequence
from pathlib import Path

from dicom_node.errors import ConfigurationError, PeerError
from dicom_node.sending.calls import echo
from dicom_node.sending.commitment import report_commitment
from dicom_node.sending.storage import StorageSession
from dicom_node.sending.stow import WebSession, web_echo
from dicom_node.settings import PeerSettings, Settings, WebPeerSettings
from dicom_node.tls import client_context


class PeerTransport:
    """Opens sessions with peers, by DIMSE or DICOMweb, with or without TLS.

    Args:
        settings: This node's AE title and certificates.

    Raises:
        ConfigurationError: The certificates cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tls()

    def open(
        self, peer: PeerSettings | WebPeerSettings, files: Sequence[Path]
    ) -> StorageSession | WebSession:
        """Open a session that sends files to a peer.

        Raises:
            UnreadableFile: A file is not DICOM.
            PeerError: The certificates cannot be used at the moment.
        """
        if isinstance(peer, WebPeerSettings):
            return WebSession(peer, files, tls=self._context(wanted=True))
        return self._dimse(peer, files, commitment=False)

    def open_committing(self, peer: PeerSettings, files: Sequence[Path]) -> StorageSession:
        """Open a session that can also request storage commitment.

        Raises:
            UnreadableFile: A file is not DICOM.
            PeerError: The certificates cannot be used at the moment.
        """
        return self._dimse(peer, files, commitment=True)

    def report(
        self,
        peer: PeerSettings,
        transaction_uid: str,
        items: Sequence[tuple[str, str]],
        held: Collection[str],
    ) -> None:
        """Report to a peer which instances of its commitment request this node holds.

        Raises:
            PeerError: The peer cannot be reached or does not accept the report.
        """
        report_commitment(
            peer,
            transaction_uid,
            items,
            held,
            calling_ae=self._settings.ae_title,
            tls=self._context(wanted=peer.tls),
        )

    def echo(self, peer: PeerSettings | WebPeerSettings) -> float:
        """Test the connection to a peer (C-ECHO, or a search by QIDO-RS).

        Returns:
            Duration in seconds.

        Raises:
            PeerError: The peer cannot be reached or refuses.
        """
        if isinstance(peer, WebPeerSettings):
            return web_echo(peer, tls=self._context(wanted=True))
        return echo(peer, calling_ae=self._settings.ae_title, tls=self._context(wanted=peer.tls))

    def _dimse(
        self, peer: PeerSettings, files: Sequence[Path], *, commitment: bool
    ) -> StorageSession:
        return StorageSession(
            peer,
            files,
            calling_ae=self._settings.ae_title,
            tls=self._context(wanted=peer.tls),
            commitment=commitment,
        )

    def _context(self, *, wanted: bool) -> ssl.SSLContext | None:
        """Read the certificates for every session, so that renewal needs no restart."""
        if not wanted:
            return None
        try:
            return self._tls()
        except ConfigurationError as error:  # usable at the start, so presumably being replaced
            raise PeerError(str(error), transient=True) from error

    def _tls(self) -> ssl.SSLContext | None:
        return client_context(self._settings.tls) if self._settings.tls is not None else None
