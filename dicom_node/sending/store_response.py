"""Store Instances Response, as DICOM JSON or XML (PS3.18, 10.5.3 and annex I; PS3.19, A.1).

The server is not trusted: an unreadable response names no instance, a document type declaration
(and with it every entity) is refused, and nesting is bounded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.parsers import expat

from dicom_node.dimse.status import PROCESSING_FAILURE, WARNING_RANGE

MAX_DEPTH = 32
"""Depth of nested XML elements; a response needs seven."""

_STORED, _FAILED = "00081199", "00081198"  # Referenced and Failed SOP Sequence
_CLASS, _INSTANCE, _REASON = "00081150", "00081155", "00081197"
_ROOT = "NativeDicomModel"


@dataclass(frozen=True)
class StoreResponse:
    """Outcome of each instance by the server's response.

    Attributes:
        stored: SOP Class UID by SOP Instance UID; empty where the server gives none.
        failed: Failure reason (PS3.3, C.14.1.1) by SOP Instance UID.
    """

    stored: Mapping[str, str]
    failed: Mapping[str, int]

    def names(self, sop_instance_uid: str) -> bool:
        """Return whether it names an instance at all."""
        return sop_instance_uid in self.stored or sop_instance_uid in self.failed


def read_response(body: bytes) -> StoreResponse:
    """Read a response; an unreadable one names no instance.

    DICOM JSON may be an object or a list of them, as servers send both. An instance that is named
    both as stored and as failed has failed.
    """
    stored: dict[str, str] = {}
    failed: dict[str, int] = {}
    for document in _documents(body):
        for item in _values(document, _STORED):
            if uid := _text(item, _INSTANCE):
                stored[uid] = _text(item, _CLASS)
        for item in _values(document, _FAILED):
            if uid := _text(item, _INSTANCE):
                failed[uid] = _number(item, _REASON)
    return StoreResponse({uid: stored[uid] for uid in stored.keys() - failed.keys()}, failed)


def _documents(body: bytes) -> list[object]:
    try:
        found = _read_xml(body) if body.lstrip().startswith(b"<") else json.loads(body)
    except (ValueError, RecursionError, expat.ExpatError):
        return []
    return found if isinstance(found, list) else [found]


def _values(item: object, tag: str) -> list[object]:
    element = item.get(tag) if isinstance(item, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _text(item: object, tag: str) -> str:
    value = next(iter(_values(item, tag)), "")
    return value.strip("\0 \r\n\t") if isinstance(value, str) else ""


def _number(item: object, tag: str) -> int:
    """A failure reason; neither success nor a warning (Bxxx), since the instance has failed."""
    value = next(iter(_values(item, tag)), None)
    try:
        reason = int(value) if isinstance(value, int | float | str) else PROCESSING_FAILURE
    except (ValueError, OverflowError):
        reason = PROCESSING_FAILURE
    sound = 0 < reason <= 0xFFFF and reason not in WARNING_RANGE
    return reason if sound else PROCESSING_FAILURE


def _read_xml(body: bytes) -> dict[str, Any]:
    """Read a Native DICOM Model into the structure of DICOM JSON.

    Raises:
        ValueError: It is another kind of document, declares a document type, or nests too deeply.
        expat.ExpatError: It is not XML.
    """
    reader = _NativeModel()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse
    parser.StartElementHandler = reader.begin
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.Parse(body, True)
    return reader.document


def _refuse(*_: object) -> None:
    raise ValueError("a document type declaration")


class _NativeModel:
    """Expat handlers that build the document during parsing."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = {}
        self._open: list[Any] = []

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(":")[2]
        if len(self._open) >= MAX_DEPTH or (not self._open and local != _ROOT):
            raise ValueError("no Native DICOM Model")
        parent = self._open[-1] if self._open else None
        self._open.append(self._element(local, attributes, parent))

    def _element(self, name: str, attributes: dict[str, str], parent: Any) -> Any:
        if name == _ROOT and parent is None:
            return self.document
        if name == "DicomAttribute" and isinstance(parent, dict):
            return parent.setdefault(attributes.get("tag", "").upper(), {"Value": []})["Value"]
        if name == "Item" and isinstance(parent, list):
            parent.append({})
            return parent[-1]
        if name == "Value" and isinstance(parent, list):
            return _Text(parent)
        return None

    def end(self, _: str) -> None:
        closed = self._open.pop()
        if isinstance(closed, _Text):
            closed.values.append("".join(closed.pieces))

    def text(self, data: str) -> None:
        if isinstance(self._open[-1], _Text):
            self._open[-1].pieces.append(data)


class _Text:
    """The text of a value during parsing."""

    def __init__(self, values: list[Any]) -> None:
        self.values, self.pieces = values, list[str]()
