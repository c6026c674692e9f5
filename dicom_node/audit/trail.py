"""Audit trail: events of the node as messages of PS3.15 section A.5.3."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dicom_node.audit import message as xml
from dicom_node.audit.destinations import Destination, FileDestination, SyslogDestination
from dicom_node.audit.message import Action, Code, Message, Outcome, Participant, Subject
from dicom_node.audit.person import person
from dicom_node.audit.pseudonym import Pseudonym, keyed_pseudonym, plain
from dicom_node.audit.transfer import Content, Transfer
from dicom_node.settings import Settings

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Peer:
    """Another system.

    Attributes:
        ae_title: AE title; empty for DICOMweb, or before it is known.
        host: Host name or address; empty when unknown.
    """

    ae_title: str
    host: str

    def participant(self) -> Participant:
        """Make the audit participant of this system."""
        name = self.ae_title or self.host or UNKNOWN
        return Participant(user_id=name, ae_title=self.ae_title, host=self.host)


class Audit:
    """Writes audit messages to the destinations; does nothing without a destination.

    No method raises or waits: an unreachable collector does not stop the node.

    Args:
        ae_title: AE title of this node.
        destinations: Destinations of the messages.
        pseudonym: Function from a patient's identifier to its pseudonym.
    """

    def __init__(
        self, ae_title: str, destinations: tuple[Destination, ...], pseudonym: Pseudonym
    ) -> None:
        self._destinations, self._pseudonym = destinations, pseudonym
        host = socket.gethostname()
        self._source = f"{ae_title}@{host}"
        self._own = Participant(user_id=str(os.getpid()), ae_title=ae_title, host=host)

    @property
    def is_enabled(self) -> bool:
        """Whether there is a destination; if not, no patient's identifier need be read."""
        return bool(self._destinations)

    def application(self, *, started: bool) -> None:
        """Record the start or stop of this process (A.5.3.1)."""
        event_type = xml.APPLICATION_START if started else xml.APPLICATION_STOP
        self._write(
            Message(
                event=xml.APPLICATION_ACTIVITY,
                action=Action.EXECUTE,
                event_type=event_type,
                source=self._source,
                participants=(replace(self._own, role=xml.APPLICATION),),
            )
        )

    def incoming(self, peer: Peer) -> Transfer:
        """Begin to record what a peer sends over one association."""
        sender = replace(peer.participant(), role=xml.SOURCE_ROLE, requestor=True)
        receiver = replace(self._own, role=xml.DESTINATION_ROLE)
        return self._transfer((sender, receiver), fresh=Action.CREATE)

    def outgoing(self, peer: Peer) -> Transfer:
        """Begin to record what this node sends to a peer in one transfer."""
        sender = replace(self._own, role=xml.SOURCE_ROLE, requestor=True)
        receiver = replace(peer.participant(), role=xml.DESTINATION_ROLE)
        return self._transfer((sender, receiver), fresh=Action.READ)

    def security_alert(self, description: str, *, peer: Peer) -> None:
        """Record that a peer was refused or could not be authenticated (A.5.3.11).

        Args:
            description: Description of the event, without any identity of a patient.
            peer: The peer.
        """
        other = peer.participant()
        subject = _alert_subject(other.user_id, xml.NODE_ID, description)
        self._alert(xml.NODE_AUTHENTICATION, (self._own, other), subject, failure=description)

    def act(self, act: str, *, subject: str, failure: str = "") -> None:
        """Record a command by which a person changes what the node does (A.5.3.11).

        Args:
            act: The command, such as ``jobs retry``.
            subject: Its object, such as ``job/17``.
            failure: Reason of a failure; empty for a success.
        """
        if not self.is_enabled:
            return
        about = _alert_subject(f"dicom-node:{subject}", xml.URI, f"dicom-node {act} {subject}")
        participants = (self._own, person())
        self._alert(xml.RESTRICTED_FUNCTION, participants, about, failure=failure)

    def rules(self, path: Path, *, sha256: str, failure: str = "") -> None:
        """Record that the rules of a file are in force, or were refused (A.5.3.11).

        Args:
            path: The file.
            sha256: Hash of its content.
            failure: Reason of the refusal; empty when the rules are in force.
        """
        about = _alert_subject(path.absolute().as_uri(), xml.URI, f"rules with SHA-256 {sha256}")
        own = replace(self._own, requestor=True)
        self._alert(xml.SOFTWARE_CONFIGURATION, (own,), about, failure=failure)

    def close(self) -> None:
        """Send waiting messages, for a short time."""
        for destination in self._destinations:
            destination.close()

    def _alert(
        self, kind: Code, participants: tuple[Participant, ...], subject: Subject, *, failure: str
    ) -> None:
        self._write(
            Message(
                event=xml.SECURITY_ALERT,
                action=Action.EXECUTE,
                event_type=kind,
                source=self._source,
                participants=participants,
                subjects=(subject,),
                outcome=Outcome.SERIOUS_FAILURE if failure else Outcome.SUCCESS,
                description=failure,
            )
        )

    def _transfer(self, participants: tuple[Participant, ...], *, fresh: Action) -> Transfer:
        def write(
            event: Code,
            action: Action,
            content: Content,
            instances: Mapping[str, int],
            failure: str,
        ) -> None:
            self._write(
                Message(
                    event=event,
                    action=action,
                    source=self._source,
                    participants=participants,
                    subjects=self._subjects(content, instances),
                    outcome=Outcome.SERIOUS_FAILURE if failure else Outcome.SUCCESS,
                    description=failure,
                )
            )

        return Transfer(write if self.is_enabled else None, fresh=fresh)

    def _subjects(self, content: Content, instances: Mapping[str, int]) -> tuple[Subject, Subject]:
        known = content.patient_id.strip()
        patient = self._pseudonym(known) if known else UNKNOWN
        return (
            Subject(content.study_uid, xml.STUDY_INSTANCE_UID, "2", "3", instances=instances),
            Subject(patient, xml.PATIENT_NUMBER, "1", "1"),
        )

    def _write(self, message: Message) -> None:
        dated = replace(message, when=time.time())
        for destination in self._destinations:
            destination.write(dated)


def _alert_subject(identifier: str, kind: Code, description: str) -> Subject:
    details = {"Alert Description": description}
    return Subject(identifier, kind, type_code="2", details=details)


NO_AUDIT = Audit("", (), plain)
"""Audit trail without destinations."""


def open_audit(settings: Settings) -> Audit:
    """Open the audit trail of this process as configured.

    Raises:
        ConfigurationError: The file or the certificates cannot be used.
        StorageError: The key of the pseudonyms cannot be used.
    """
    wanted = settings.audit
    destinations: list[Destination] = []
    if wanted.file is not None:
        destinations.append(FileDestination(wanted.file))
    if wanted.syslog is not None:
        destinations.append(SyslogDestination(wanted.syslog, settings.tls))
    hashed = wanted.patient == "hashed" and bool(destinations)
    pseudonym = keyed_pseudonym(settings.storage) if hashed else plain
    return Audit(settings.ae_title, tuple(destinations), pseudonym)
