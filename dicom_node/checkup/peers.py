"""Checks of everything the node calls: PACS by DIMSE and DICOMweb, syslog, mail, webhook."""

from __future__ import annotations

import socket
from collections.abc import Collection
from functools import partial
from urllib.parse import urlsplit

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    StorageCommitmentPushModel,
)

from dicom_node.checkup.verdict import Checks
from dicom_node.dimse.association import associate
from dicom_node.dimse.proposal import storage_contexts
from dicom_node.errors import ConfigurationError, NodeError, PeerError
from dicom_node.rules import load_rules
from dicom_node.sending.calls import echo
from dicom_node.sending.stow import web_echo
from dicom_node.settings import PeerSettings, Settings, WebPeerSettings
from dicom_node.tls import client_context


def checks(settings: Settings) -> Checks:
    """Generate the checks of each peer and of every other configured service."""
    wanted = _destinations(settings)
    for peer in settings.peers:
        yield f"peer {peer.name}", partial(_peer, peer, settings, wanted)
    for what, host, port in _services(settings):
        yield what, partial(_resolvable, host, port)


def _destinations(settings: Settings) -> set[str]:
    """Peers that receive derived series, by default or by a rule."""
    named = set(settings.destinations)
    try:
        rules = load_rules(settings).rules
    except NodeError:  # reported by the check of the rules
        return named
    for rule in rules:
        if rule.denoise is not None:
            named.update(rule.denoise.destinations or ())
    return named


def _peer(
    peer: PeerSettings | WebPeerSettings, settings: Settings, destinations: Collection[str]
) -> str:
    if isinstance(peer, PeerSettings):
        return _dicom_peer(peer, settings, destinations)
    context = client_context(settings.tls) if settings.tls is not None else None
    seconds = web_echo(peer, tls=context)
    answered = f"{peer.url} answered in {1000 * seconds:.0f} ms"
    return f"{answered}; {_trial(peer.name)}" if peer.name in destinations else f"{answered}."


def _dicom_peer(peer: PeerSettings, settings: Settings, destinations: Collection[str]) -> str:
    context = client_context(settings.tls) if peer.tls and settings.tls is not None else None
    seconds = echo(peer, calling_ae=settings.ae_title, tls=context)
    answered = f"{peer.ae_title} at {peer.host}:{peer.port} answered in {1000 * seconds:.0f} ms"
    if peer.name not in destinations:
        return f"{answered}."
    proposed = storage_contexts([(CTImageStorage, ExplicitVRLittleEndian)])
    if peer.storage_commitment:
        proposed.append(build_context(StorageCommitmentPushModel))
    with associate(peer, proposed, calling_ae=settings.ae_title, tls=context) as association:
        takes_ct = association.context(CTImageStorage) is not None
        commits = association.context(StorageCommitmentPushModel) is not None
    if not takes_ct:
        raise PeerError(
            f"{peer.ae_title} accepts no CT images from {settings.ae_title}: allow that there.",
            transient=False,
        )
    if peer.storage_commitment and not commits:
        raise PeerError(
            f"{peer.ae_title} does not offer storage commitment: enable it there for"
            f" {settings.ae_title}, or set `storage_commitment: false` for it in node.yaml.",
            transient=False,
        )
    offer = f"accepts CT{' and storage commitment' if commits else ''}"
    return f"{answered} and {offer}; {_trial(peer.name)}"


def _trial(name: str) -> str:
    return f"`check --store {name}` stores a test image."


def _services(settings: Settings) -> list[tuple[str, str, int]]:
    """Name, host and port of the services that receive messages."""
    found: list[tuple[str, str, int]] = []
    if (syslog := settings.audit.syslog) is not None:
        found.append(("audit syslog", syslog.host, syslog.port))
    if (email := settings.notify.email) is not None:
        found.append(("mail server", email.host, email.port))
    if (webhook := settings.notify.webhook) is not None:
        parts = urlsplit(webhook.url)
        found.append(("webhook", parts.hostname or "", parts.port or 443))
    return found


def _resolvable(host: str, port: int) -> str:
    """Resolve the address only: a mail or an audit message is not sent as a test."""
    try:
        socket.getaddrinfo(host, port)
    except OSError as error:
        raise ConfigurationError(
            f"{host} cannot be resolved by this machine: correct the name in node.yaml."
        ) from error
    return f"The name of {host}:{port} can be resolved; nothing was sent."
