"""Verification and Storage SCU as single function calls: C-ECHO, and C-STORE of some files."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.dimse.association import associate
from dicom_node.dimse.command import C_ECHO_RQ, Command
from dicom_node.dimse.connection import ConnectionLost
from dicom_node.dimse.peer import Peer, describe
from dicom_node.dimse.status import SUCCESS
from dicom_node.errors import PeerError
from dicom_node.sending.outcome import SendResult
from dicom_node.sending.storage import StorageSession

__all__ = ["SendResult", "echo", "send_files"]


def echo(peer: Peer, *, calling_ae: str, tls: ssl.SSLContext | None = None) -> float:
    """Send a C-ECHO to a peer.

    Returns:
        Duration of the whole association in seconds.

    Raises:
        PeerError: The peer cannot be reached, rejects the association, or does not answer with
            success.
    """
    begin = time.perf_counter()
    contexts = [build_context(Verification)]
    with associate(peer, contexts, calling_ae=calling_ae, tls=tls) as association:
        context = association.context(Verification)
        try:
            request = Command(field=C_ECHO_RQ, affected_class=Verification)
            status = association.request(context, request).status if context else None
        except ConnectionLost:
            status = None
        if status != SUCCESS:
            raise PeerError(f"{describe(peer)} did not answer the C-ECHO.", transient=True)
    return time.perf_counter() - begin


def send_files(
    peer: Peer,
    files: Sequence[Path],
    *,
    calling_ae: str,
    tls: ssl.SSLContext | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[SendResult]:
    """Send files by C-STORE, normally over one association.

    Args:
        peer: Destination.
        files: DICOM files; each is sent in its own transfer syntax, or in Implicit VR Little Endian
            where the peer accepts nothing else.
        calling_ae: This node's AE title.
        tls: TLS context; None for a plain connection.
        on_progress: Called with (done, total) after each file.

    Returns:
        One result per file, in order; without a status for files that got no response.

    Raises:
        PeerError: No association could be made.
        UnreadableFile: A file is not DICOM.
    """
    results: list[SendResult] = []
    with StorageSession(peer, files, calling_ae=calling_ae, tls=tls) as session:
        for result in session.send():
            results.append(result)
            if on_progress is not None:
                on_progress(len(results), len(files))
    return results
