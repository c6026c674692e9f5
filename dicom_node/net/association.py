"""How this node asks for an association: contexts, timeouts, and why one failed."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pynetdicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.errors import PeerError
from dicom_node.net.peers import Peer, describe

CONNECT_SECONDS = 10.0
"""pynetdicom waits without limit for a host that is switched off unless it is told not to."""

ANSWER_SECONDS = 60.0
"""How long a peer may take to answer one message; a PACS with a busy archive takes its time."""

PDU_BYTES = 131072
"""Largest fragment this node takes: 128 KiB, the most that Orthanc offers too."""

LARGEST_CONTEXT_COUNT = 128
"""An association carries at most 128 presentation contexts (PS3.8, 9.3.2.2: odd numbers 1..255)."""

_TRANSIENT_REJECTION = 0x02

pynetdicom._config.LOG_HANDLER_LEVEL = "none"
# A file whose transfer syntax the peer accepts is sent as it lies on disk, without being decoded.
pynetdicom._config.STORE_SEND_CHUNKED_DATASET = True


@contextmanager
def associate(
    peer: Peer, contexts: list[PresentationContext], *, calling_ae: str
) -> Iterator[Association]:
    """An association with a peer, released (or given up) at the end.

    Raises:
        PeerError: The peer cannot be reached, refuses, or accepts none of the contexts. Transient
            unless the peer says that its refusal is permanent.
    """
    entity = AE(ae_title=calling_ae)
    entity.connection_timeout = CONNECT_SECONDS
    entity.dimse_timeout = ANSWER_SECONDS
    entity.network_timeout = ANSWER_SECONDS
    connected: list[bool] = []
    association = entity.associate(
        peer.host,
        peer.port,
        contexts=contexts,
        ae_title=peer.ae_title,
        max_pdu=PDU_BYTES,
        evt_handlers=[(evt.EVT_CONN_OPEN, _on_connection, [connected])],
    )
    if not association.is_established:
        raise _why_not(association, peer, connected=bool(connected))
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def storage_contexts(kinds: Iterable[tuple[str, str]]) -> list[PresentationContext]:
    """The contexts to propose for files of these (SOP class, transfer syntax) pairs.

    One transfer syntax a context, so that the peer's answer says of each whether it is accepted;
    an uncompressed file may also go as Implicit VR Little Endian, which every peer must accept
    (PS3.5, 10.1).

    Raises:
        PeerError: More combinations than one association can carry.
    """
    wanted: dict[tuple[str, str], None] = {}
    for sop_class, syntax in kinds:
        wanted[sop_class, syntax] = None
        if syntax == ExplicitVRLittleEndian:
            wanted[sop_class, ImplicitVRLittleEndian] = None
    if len(wanted) > LARGEST_CONTEXT_COUNT:
        raise PeerError(
            f"The files are of {len(wanted)} combinations of SOP class and transfer syntax, but one"
            f" association carries {LARGEST_CONTEXT_COUNT}: send them in several goes.",
            transient=False,
        )
    return [build_context(sop_class, syntax) for sop_class, syntax in wanted]


def _on_connection(event: Event, connected: list[bool]) -> None:
    connected.append(True)
    transport = event.assoc.dul.socket
    if transport is not None and transport.socket is not None:
        # Without it the last small fragment of each image waits for the peer's delayed ACK.
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _why_not(association: Association, peer: Peer, *, connected: bool) -> PeerError:
    who = describe(peer)
    if not connected:
        return PeerError(
            f"No connection to {who}: the host is away or nothing listens there;"
            " check host, port and firewall.",
            transient=True,
        )
    if association.is_rejected and association.acceptor.primitive is not None:
        answer = association.acceptor.primitive
        return PeerError(
            f"{who} rejected the association: {answer.reason_str}"
            f" ({answer.result_str.lower()}); check both AE titles and whether it knows this node.",
            transient=answer.result == _TRANSIENT_REJECTION,
        )
    if association.rejected_contexts:
        names = sorted({_class_name(context) for context in association.rejected_contexts})
        return PeerError(f"{who} accepts none of: {', '.join(names)}.", transient=False)
    return PeerError(f"{who} broke off while the association was negotiated.", transient=True)


def _class_name(context: PresentationContext) -> str:
    return context.abstract_syntax.name if context.abstract_syntax is not None else "unknown"
