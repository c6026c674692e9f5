"""Checker of audit messages against the RELAX NG schema of PS3.15 section A.5.1.1."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

Value = Callable[[str], bool]


def one_of(*values: str) -> Value:
    return lambda text: text in values


def numbers(last: int) -> Value:
    return one_of(*(str(number) for number in range(1, last + 1)))


def anything(text: str) -> bool:
    return True


def token(text: str) -> bool:
    return text == " ".join(text.split())


def base64_binary(text: str) -> bool:
    return base64.b64encode(base64.b64decode(text, validate=True)).decode() == text


def date_time(text: str) -> bool:
    pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?"
    return re.fullmatch(pattern, text) is not None


@dataclass(frozen=True)
class Grammar:
    """What an element may hold.

    `children` are (name, fewest, most) in the order in which they must stand; `needed` and
    `allowed` are the attributes.
    """

    children: tuple[tuple[str, int, int], ...] = ()
    needed: dict[str, Value] = field(default_factory=dict)
    allowed: dict[str, Value] = field(default_factory=dict)
    text: Value | None = None


MANY = 1_000_000
CODED = Grammar(
    needed={"csd-code": token, "codeSystemName": token, "originalText": token},
    allowed={"displayName": token},
)
GRAMMAR = {
    "AuditMessage": Grammar(
        (
            ("EventIdentification", 1, 1),
            ("ActiveParticipant", 1, MANY),
            ("AuditSourceIdentification", 1, 1),
            ("ParticipantObjectIdentification", 0, MANY),
        )
    ),
    "EventIdentification": Grammar(
        (("EventID", 1, 1), ("EventTypeCode", 0, MANY), ("EventOutcomeDescription", 0, 1)),
        {"EventDateTime": date_time, "EventOutcomeIndicator": one_of("0", "4", "8", "12")},
        {"EventActionCode": one_of("C", "R", "U", "D", "E")},
    ),
    "EventID": CODED,
    "EventTypeCode": CODED,
    "EventOutcomeDescription": Grammar(text=anything),
    "ActiveParticipant": Grammar(
        (("RoleIDCode", 0, MANY), ("MediaIdentifier", 0, 1)),
        {"UserID": anything, "UserIsRequestor": one_of("true", "false", "1", "0")},
        {
            "AlternativeUserID": anything,
            "UserName": anything,
            "NetworkAccessPointID": token,
            "NetworkAccessPointTypeCode": numbers(5),
        },
    ),
    "RoleIDCode": CODED,
    "AuditSourceIdentification": Grammar(
        (("AuditSourceTypeCode", 0, MANY),),
        {"AuditSourceID": token},
        {"AuditEnterpriseSiteID": token},
    ),
    "AuditSourceTypeCode": Grammar(needed={"csd-code": numbers(9)}),
    "ParticipantObjectIdentification": Grammar(
        (
            ("ParticipantObjectIDTypeCode", 1, 1),
            ("ParticipantObjectName", 1, 1),
            ("ParticipantObjectDetail", 0, MANY),
            ("ParticipantObjectDescription", 0, MANY),
        ),
        {"ParticipantObjectID": token},
        {
            "ParticipantObjectTypeCode": numbers(4),
            "ParticipantObjectTypeCodeRole": numbers(26),
            "ParticipantObjectDataLifeCycle": numbers(15),
            "ParticipantObjectSensitivity": token,
        },
    ),
    "ParticipantObjectIDTypeCode": CODED,
    "ParticipantObjectName": Grammar(text=token),
    "ParticipantObjectDetail": Grammar(needed={"type": token, "value": base64_binary}),
    "ParticipantObjectDescription": Grammar(
        (("MPPS", 0, MANY), ("Accession", 0, MANY), ("SOPClass", 0, MANY))
    ),
    "SOPClass": Grammar(needed={"NumberOfInstances": str.isdigit}, allowed={"UID": token}),
}


def faults(xml: str) -> list[str]:
    """What is wrong with a message; empty when it follows the schema."""
    root = ET.fromstring(xml)
    return [f"root is {root.tag}"] if root.tag != "AuditMessage" else faults_of(root)


def faults_of(element: ET.Element) -> list[str]:
    grammar = GRAMMAR[element.tag]
    found = attribute_faults(element, grammar)
    found += order_faults([child.tag for child in element], grammar, element.tag)
    if grammar.text is None and (element.text or "").strip():
        found.append(f"{element.tag} holds text")
    if grammar.text is not None and not grammar.text(element.text or ""):
        found.append(f"text of {element.tag}: {element.text!r}")
    return found + [
        fault for child in element if child.tag in GRAMMAR for fault in faults_of(child)
    ]


def attribute_faults(element: ET.Element, grammar: Grammar) -> list[str]:
    given, known = dict(element.attrib), {**grammar.needed, **grammar.allowed}
    found = [f"{element.tag} lacks {name}" for name in grammar.needed if name not in given]
    found += [f"{element.tag} has an attribute {name}" for name in given if name not in known]
    return found + [
        f"{element.tag}.{name} is {value!r}"
        for name, value in given.items()
        if name in known and not known[name](value)
    ]


def order_faults(tags: list[str], grammar: Grammar, parent: str) -> list[str]:
    found = [f"{parent} holds {tag}" for tag in tags if tag not in dict_of(grammar)]
    ordered = [name for name, _, _ in grammar.children for tag in tags if tag == name]
    if not found and ordered != tags:
        found.append(f"{parent} holds {tags}, in the wrong order")
    return found + [
        f"{parent} holds {tags.count(name)} {name}"
        for name, fewest, most in grammar.children
        if not fewest <= tags.count(name) <= most
    ]


def dict_of(grammar: Grammar) -> dict[str, int]:
    return {name: most for name, _, most in grammar.children}
