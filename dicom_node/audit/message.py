"""DICOM audit messages as XML (PS3.15 section A.5.1): element names, order and codes."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from ipaddress import ip_address
from xml.etree import ElementTree as ET

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 excludes; a hostile peer can put them into an AE title."""

_SPACE = re.compile(r"\s")

WITHHELD = "withheld"
"""Name of a participant object, which the schema requires; no message contains a patient's."""

APPLICATION_SERVER = "4"
"""AuditSourceTypeCode (PS3.15 section A.5.1.2.1)."""


@dataclass(frozen=True)
class Code:
    """A coded value (``CodedValueType``)."""

    value: str
    scheme: str
    meaning: str

    def element(self, tag: str) -> ET.Element:
        """Make an element of the value."""
        return _element(
            tag,
            {
                "csd-code": _token(self.value),
                "codeSystemName": _token(self.scheme),
                "originalText": _token(self.meaning),
            },
        )


def dcm(value: str, meaning: str) -> Code:
    """Make a code of the DICOM controlled terminology (PS3.16 annex D)."""
    return Code(value, "DCM", meaning)


APPLICATION_ACTIVITY = dcm("110100", "Application Activity")
BEGIN_TRANSFERRING = dcm("110102", "Begin Transferring DICOM Instances")
INSTANCES_TRANSFERRED = dcm("110104", "DICOM Instances Transferred")
SECURITY_ALERT = dcm("110113", "Security Alert")
APPLICATION_START = dcm("110120", "Application Start")
APPLICATION_STOP = dcm("110121", "Application Stop")
NODE_AUTHENTICATION = dcm("110126", "Node Authentication")
APPLICATION = dcm("110150", "Application")
DESTINATION_ROLE = dcm("110152", "Destination Role ID")
SOURCE_ROLE = dcm("110153", "Source Role ID")
SOFTWARE_CONFIGURATION = dcm("110131", "Software Configuration")
RESTRICTED_FUNCTION = dcm("110132", "Use of Restricted Function")
STUDY_INSTANCE_UID = dcm("110180", "Study Instance UID")
NODE_ID = dcm("110182", "Node ID")
PATIENT_NUMBER = Code("2", "RFC-3881", "Patient Number")
URI = Code("12", "RFC-3881", "URI")


class Action(Enum):
    """``EventActionCode``."""

    CREATE = "C"
    READ = "R"
    EXECUTE = "E"


class Outcome(Enum):
    """``EventOutcomeIndicator``."""

    SUCCESS = "0"
    MINOR_FAILURE = "4"
    SERIOUS_FAILURE = "8"


@dataclass(frozen=True)
class Participant:
    """Active participant of an event (``ActiveParticipantContents``).

    Attributes:
        user_id: Process ID, AE title, host name or login of a person.
        user_name: Further description of a person; empty for none.
        ae_title: AE title; empty for none.
        host: Host name or address; empty when unknown.
        requestor: Whether it initiated the event.
    """

    user_id: str
    role: Code | None = None
    ae_title: str = ""
    host: str = ""
    requestor: bool = False
    user_name: str = ""

    def element(self) -> ET.Element:
        """Make an element of the participant."""
        attributes = {"UserID": self.user_id}
        if self.ae_title:
            attributes["AlternativeUserID"] = f"AETITLES={self.ae_title}"
        if self.user_name:
            attributes["UserName"] = self.user_name
        attributes["UserIsRequestor"] = "true" if self.requestor else "false"
        if self.host:
            attributes["NetworkAccessPointID"] = _token(self.host)
            attributes["NetworkAccessPointTypeCode"] = "2" if _is_address(self.host) else "1"
        element = _element("ActiveParticipant", attributes)
        if self.role is not None:
            element.append(self.role.element("RoleIDCode"))
        return element


@dataclass(frozen=True)
class Subject:
    """Object of an event (``ParticipantObjectIdentificationContents``).

    Attributes:
        identifier: Identifier of the kind ``id_type``.
        type_code: ``1`` for a person, ``2`` for a system object.
        role_code: ``1`` for a patient, ``3`` for a report, None for none.
        name: Name, which the schema requires.
        details: Free text by kind; encoded as base64, since it may contain text from peers.
        instances: Number of instances by SOP class.
    """

    identifier: str
    id_type: Code
    type_code: str
    role_code: str | None = None
    name: str = WITHHELD
    details: Mapping[str, str] = field(default_factory=dict)
    instances: Mapping[str, int] = field(default_factory=dict)

    def element(self) -> ET.Element:
        """Make an element of the object."""
        attributes = {
            "ParticipantObjectID": _token(self.identifier),
            "ParticipantObjectTypeCode": self.type_code,
        }
        if self.role_code is not None:
            attributes["ParticipantObjectTypeCodeRole"] = self.role_code
        element = _element("ParticipantObjectIdentification", attributes)
        element.append(self.id_type.element("ParticipantObjectIDTypeCode"))
        element.append(_element("ParticipantObjectName", text=self.name))
        for kind, value in self.details.items():
            encoded = base64.b64encode(_clean(value).encode()).decode()
            detail = {"type": kind, "value": encoded}
            element.append(_element("ParticipantObjectDetail", detail))
        if self.instances:
            element.append(self._description())
        return element

    def _description(self) -> ET.Element:
        description = _element("ParticipantObjectDescription")
        for uid, count in self.instances.items():
            attributes = {"UID": uid, "NumberOfInstances": str(count)}
            description.append(_element("SOPClass", attributes))
        return description


@dataclass(frozen=True)
class Message:
    """One audit message.

    Attributes:
        source: Reporting system (``AuditSourceID``).
        when: Time of the event, seconds since 1970.
        description: Reason of a failure; empty for a success.
    """

    event: Code
    action: Action
    source: str
    participants: tuple[Participant, ...]
    subjects: tuple[Subject, ...] = ()
    event_type: Code | None = None
    outcome: Outcome = Outcome.SUCCESS
    description: str = ""
    when: float = 0.0

    def to_xml(self) -> str:
        """Return the message as XML on one line."""
        root = ET.Element("AuditMessage")
        root.extend(self._elements())
        return ET.tostring(root, encoding="unicode")

    def _elements(self) -> Iterator[ET.Element]:
        """Yield the elements in the order of the schema."""
        yield self._identification()
        for participant in self.participants:
            yield participant.element()
        source = _element("AuditSourceIdentification", {"AuditSourceID": _token(self.source)})
        source.append(_element("AuditSourceTypeCode", {"csd-code": APPLICATION_SERVER}))
        yield source
        for subject in self.subjects:
            yield subject.element()

    def _identification(self) -> ET.Element:
        attributes = {
            "EventActionCode": self.action.value,
            "EventDateTime": datetime.fromtimestamp(self.when, UTC).isoformat("T", "milliseconds"),
            "EventOutcomeIndicator": self.outcome.value,
        }
        element = _element("EventIdentification", attributes)
        element.append(self.event.element("EventID"))
        if self.event_type is not None:
            element.append(self.event_type.element("EventTypeCode"))
        if self.description:
            element.append(_element("EventOutcomeDescription", text=self.description))
        return element


def _element(
    tag: str, attributes: Mapping[str, str] | None = None, *, text: str | None = None
) -> ET.Element:
    given = {name: _clean(value) for name, value in (attributes or {}).items()}
    element = ET.Element(tag, given)
    element.text = None if text is None else _clean(text)
    return element


def _clean(text: str) -> str:
    """Make text valid XML on one line; inner spaces stay, as AE titles may differ in them."""
    return _SPACE.sub(" ", _NOT_XML.sub("\ufffd", text)).strip()


def _token(text: str) -> str:
    """Make text a token of the schema: inner spaces are single."""
    return " ".join(_clean(text).split())


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
