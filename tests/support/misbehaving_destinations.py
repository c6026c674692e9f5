"""Destinations that misbehave by a script, association by association or request by request.

They keep what they say they have stored, and only that: by SOP Instance UID, every copy.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

from pydicom import dcmread

from support.raw_dicom import (
    ABORT,
    COMMAND,
    LAST,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    associate_ac,
    pdu,
    store_response,
)
from support.raw_server import RawServer, read_pdu

NOTHING = b"\0\0\0\0"
DRIP_SECONDS = 0.05
OUT_OF_RESOURCES = 0xA700

ASSOCIATIONS = (
    "hangs up",
    "drips the acceptance",
    "aborts before the answer",
    "aborts after the answer",
    "answers for another image",
    "answers for another class",
    "answers twice",
    "is out of resources",
    "is silent",
    "drips the answer",
    "takes half and hangs up",
)
"""Ways of a Storage SCP; any other word: it behaves."""

REQUESTS = (
    "names nothing",
    "shows a login page",
    "names another image",
    "stores the first only",
    "is unavailable",
    "breaks",
    "breaks off",
    "drips",
    "stores and breaks off",
)
"""Ways of a DICOMweb server; any other word: it behaves."""


class StorageScp(RawServer):
    """A Storage SCP that treats each association in the next way of its script, then behaves."""

    def __init__(self, *script: str) -> None:
        super().__init__()
        self.script = list(script)
        self.stored: dict[str, list[bytes]] = defaultdict(list)

    def peer(self, name: str = "pacs") -> dict[str, Any]:
        return {"name": name, "ae_title": "PACS", "host": "127.0.0.1", "port": self.port}

    def converse(self, connection: socket.socket) -> None:
        way = self.script.pop(0) if self.script else "behaves"
        _Talk(self, connection, way, self.ended).run()


class _Talk:
    """One association."""

    def __init__(
        self, owner: StorageScp, client: socket.socket, way: str, ended: threading.Event
    ) -> None:
        self._owner, self._client, self._way, self._ended = owner, client, way, ended

    def run(self) -> None:
        kind, body = read_pdu(self._client)
        if self._way == "hangs up":
            return
        self._say(_acceptance(body), slowly=self._way == "drips the acceptance")
        asked, data = b"", b""
        while True:
            kind, body = read_pdu(self._client)
            if kind == RELEASE_RQ:
                self._client.sendall(pdu(RELEASE_RP, NOTHING))
            if kind != P_DATA:
                return
            if self._way == "takes half and hangs up" and data:
                return
            for number, control, piece in _values(body):
                asked, data = (asked + piece, data) if control & COMMAND else (asked, data + piece)
                if control & LAST and not control & COMMAND:
                    self._answer(asked, data, number)
                    asked, data = b"", b""

    def _answer(self, asked: bytes, data: bytes, number: int) -> None:
        elements = _elements(asked)
        message = struct.unpack("<H", elements[0x0110])[0]
        sop_class, instance = elements[0x0002].rstrip(b"\0"), elements[0x1000].rstrip(b"\0")
        way = self._way
        if way == "aborts before the answer":
            self._abort()
        if way == "is silent":
            self._ended.wait(10)
            raise EOFError
        status = OUT_OF_RESOURCES if way == "is out of resources" else 0
        if way == "answers for another image":
            answer = store_response(
                message, sop_class=sop_class, instance=b"1.2.3.4", status=status, number=number
            )
        elif way == "answers for another class":
            answer = store_response(
                message,
                sop_class=b"1.2.840.10008.5.1.4.1.1.4",
                instance=instance,
                status=status,
                number=number,
            )
        else:
            if status == 0:
                self._owner.stored[instance.decode()].append(data)
            answer = store_response(
                message, sop_class=sop_class, instance=instance, status=status, number=number
            )
        self._say(answer * (2 if way == "answers twice" else 1), slowly=way == "drips the answer")
        if way == "aborts after the answer":
            self._abort()

    def _abort(self) -> None:
        self._client.sendall(pdu(ABORT, NOTHING))
        raise EOFError

    def _say(self, message: bytes, *, slowly: bool) -> None:
        if not slowly:
            self._client.sendall(message)
            return
        for byte in message:
            self._client.sendall(bytes([byte]))
            if self._ended.wait(DRIP_SECONDS):
                raise EOFError


def _acceptance(request: bytes) -> bytes:
    """Every proposed context accepted in its first transfer syntax."""
    accepted, at = [], 68
    while at < len(request):
        kind, length = struct.unpack_from(">BxH", request, at)
        if kind == 0x20:
            number, inner = request[at + 4], at + 8
            while request[inner] != 0x40:
                inner += 4 + struct.unpack_from(">H", request, inner + 2)[0]
            size = struct.unpack_from(">H", request, inner + 2)[0]
            accepted.append((number, 0, request[inner + 4 : inner + 4 + size]))
        at += 4 + length
    return associate_ac(*accepted, titles=request[4:36])


def _values(body: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at < len(body):
        length, number, control = struct.unpack_from(">IBB", body, at)
        yield number, control, body[at + 6 : at + 4 + length]
        at += 4 + length


def _elements(encoded: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at < len(encoded):
        _, element, length = struct.unpack_from("<HHI", encoded, at)
        found[element] = encoded[at + 8 : at + 8 + length]
        at += 8 + length
    return found


class StowServer:
    """A DICOMweb server that treats each request in the next way of its script, then behaves."""

    def __init__(self, *script: str) -> None:
        self.script = list(script)
        self.stored: dict[str, list[bytes]] = defaultdict(list)
        self._ended = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with contextlib.suppress(OSError):
                    owner.answer(self, body)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True

    def peer(self, name: str = "pacs") -> dict[str, Any]:
        return {"name": name, "url": f"http://127.0.0.1:{self._http.server_port}/dicom-web"}

    @contextlib.contextmanager
    def serving(self) -> Iterator[StowServer]:
        thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            self._http.shutdown()
            thread.join()
            self._http.server_close()

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        way = self.script.pop(0) if self.script else "behaves"
        sent = _datasets(body)
        kept = dict(list(sent.items())[:1]) if way == "stores the first only" else sent
        if way in ("behaves", "stores the first only", "stores and breaks off", "drips"):
            for instance, data in kept.items():
                self.stored[instance].append(data)
        acts: dict[str, Callable[[], None]] = {
            "names nothing": lambda: _reply(handler, 200, b"{}"),
            "shows a login page": lambda: _reply(handler, 200, b"<html>log in</html>"),
            "names another image": lambda: _reply(handler, 200, _named(["1.2.3"])),
            "stores the first only": lambda: _reply(handler, 202, _named(list(kept))),
            "is unavailable": lambda: _reply(handler, 503, b""),
            "breaks": lambda: _reply(handler, 500, b""),
            "breaks off": lambda: None,
            "stores and breaks off": lambda: None,
            "drips": lambda: self._drip(handler),
        }
        acts.get(way, lambda: _reply(handler, 200, _named(list(sent))))()
        handler.close_connection = True

    def _drip(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        while not self._ended.wait(DRIP_SECONDS):
            handler.wfile.write(b" ")


def _datasets(request: bytes) -> dict[str, bytes]:
    """SOP Instance UID to data set, of each part of a request."""
    boundary = re.match(rb"\r\n(--[0-9a-f]+)", request)
    assert boundary is not None
    parts = [part.split(b"\r\n\r\n", 1)[1] for part in request.split(b"\r\n" + boundary[1])[1:-1]]
    return {str(dcmread(BytesIO(part)).SOPInstanceUID): part for part in parts}


def _named(instances: list[str]) -> bytes:
    items = [{"00081155": {"vr": "UI", "Value": [instance]}} for instance in instances]
    return json.dumps({"00081199": {"vr": "SQ", "Value": items}}).encode()


def _reply(handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", "application/dicom+json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
