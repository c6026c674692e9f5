"""Verification and Storage SCU, each in one call."""

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
    """Ask a peer whether it is there (C-ECHO).

    Returns:
        Seconds for the whole association.

    Raises:
        PeerError: It cannot be reached, refuses, or does not answer with success.
    """
    begin = time.perf_counter()
    contexts = [build_context(Verification)]
    with associate(peer, contexts, calling_ae=calling_ae, tls=tls) as association:
        context = association.context(Verification)
        try:
            request = Command(field=C_ECHO_RQ, affected_class=Verification)
            answered = context is not None and association.request(context, request).status
        except ConnectionLost:
            answered = None
        if answered != SUCCESS:
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
    """Send files (C-STORE), normally over one association.

    Args:
        peer: Where to.
        files: DICOM files; each goes in its own transfer syntax, or in Implicit VR Little Endian
            where the peer takes nothing else.
        calling_ae: This node's AE title.
        tls: Speak TLS with these certificates.
        on_progress: Told (done, total) after each file.

    Returns:
        One result a file, in order; no status for files that got no answer.

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
