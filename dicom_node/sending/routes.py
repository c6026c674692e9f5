"""The node's ways to other systems, as its configuration describes them."""

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
    """Opens sessions with peers: DIMSE or DICOMweb, with TLS or without.

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
        """A session that sends files to a peer.

        Raises:
            UnreadableFile: A file is not DICOM.
            PeerError: The certificates cannot be used at the moment.
        """
        if isinstance(peer, WebPeerSettings):
            return WebSession(peer, files, tls=self._context(wanted=True))
        return self._dimse(peer, files, commitment=False)

    def open_committing(self, peer: PeerSettings, files: Sequence[Path]) -> StorageSession:
        """The same, with storage commitment.

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
        """Report to a peer which of the instances it asked about this node holds.

        Raises:
            PeerError: The peer cannot be reached or does not take the report.
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
        """Ask a peer whether it is there (C-ECHO, or a search by QIDO-RS).

        Returns:
            Seconds until its answer.

        Raises:
            PeerError: It cannot be reached or refuses.
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
        """Read anew for every session: a certificate that was renewed counts without a restart."""
        if not wanted:
            return None
        try:
            return self._tls()
        except ConfigurationError as error:  # it was usable at the start, so it will be again
            raise PeerError(str(error), transient=True) from error

    def _tls(self) -> ssl.SSLContext | None:
        return client_context(self._settings.tls) if self._settings.tls is not None else None
