"""STOW-RS user agent: images to a DICOMweb server (PS3.18, section 10.5).

dicomweb-client decodes every image and forgets which of them a server refused; this sends the
bytes as they lie on disk and reads the answer image by image.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth

from dicom_node.errors import PeerError
from dicom_node.net.connection import CONNECT_SECONDS
from dicom_node.net.multipart import MultipartFiles
from dicom_node.net.outcome import SUCCESS, SendResult
from dicom_node.net.outgoing import OutgoingFile, describe_file
from dicom_node.settings import WebPeerSettings

FILES_PER_REQUEST = 20
"""A lost answer costs no more than so many images sent again."""

ANSWER_SECONDS = 120.0
"""How long a server may take to answer; it stores the whole request first."""

LARGEST_ANSWER_BYTES = 16 << 20

_JSON = "application/dicom+json"
_STORED, _FAILED = "00081199", "00081198"  # Referenced and Failed SOP Sequence
_INSTANCE, _REASON = "00081155", "00081197"  # Referenced SOP Instance UID, Failure Reason
_PARTIAL = 202
_CONFLICT = 409
_PASSING = frozenset({408, 425, 429})
_REFUSING = frozenset({401, 403})


class WebSession:
    """Sends files to a DICOMweb server; use it as a context manager.

    Args:
        peer: Where to.
        files: What will be sent, each as it lies on disk.
        tls: Certificates for https beside the public ones.

    Raises:
        UnreadableFile: A file is not DICOM.
    """

    def __init__(
        self, peer: WebPeerSettings, files: Sequence[Path], *, tls: ssl.SSLContext | None = None
    ) -> None:
        self._peer = peer
        self._files = [describe_file(path) for path in files]
        self._session = _session(peer, tls)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session.close()

    def send(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[SendResult]:
        """Send the files in order, one result each; stops between two requests when told to.

        Raises:
            PeerError: The server cannot be reached or does not take requests of this node.
        """
        for begin in range(0, len(self._files), FILES_PER_REQUEST):
            if should_stop():
                return
            files = self._files[begin : begin + FILES_PER_REQUEST]
            statuses = self._store(files)
            for file in files:
                uid = file.sop_instance_uid
                yield SendResult(file.path, uid, statuses.get(uid))

    def _store(self, files: Sequence[OutgoingFile]) -> Mapping[str, int]:
        """DIMSE status by SOP Instance UID; instances the server says nothing of are absent."""
        body = MultipartFiles([file.path for file in files])
        headers = {"Content-Type": body.content_type, "Accept": _JSON}
        code, answer = _ask(
            self._session, "POST", f"{self._peer.url}/studies", self._peer, headers, body
        )
        told = _statuses(answer)
        if code in (requests.codes.ok, _PARTIAL):
            if not told and code == requests.codes.ok:  # says it by its code alone
                return {file.sop_instance_uid: SUCCESS for file in files}
            return told
        if code == _CONFLICT and told:
            return told
        raise _refused(code, self._peer)


def web_echo(peer: WebPeerSettings, *, tls: ssl.SSLContext | None = None) -> float:
    """Ask a DICOMweb server whether it is there, by a search for one study (QIDO-RS).

    Returns:
        Seconds until its answer.

    Raises:
        PeerError: It cannot be reached or does not let this node in.
    """
    begin = time.perf_counter()
    with _session(peer, tls) as session:
        code, _ = _ask(session, "GET", f"{peer.url}/studies?limit=1", peer, {"Accept": _JSON})
        if code in _REFUSING or code >= 500 or code == requests.codes.not_found:
            raise _refused(code, peer)
    return time.perf_counter() - begin


class _Authorities(HTTPAdapter):
    """Adds this node's authorities (and its certificate) to what https is checked with."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        super().__init__()

    def init_poolmanager(self, *args: object, **options: object) -> None:
        super().init_poolmanager(*args, **options, ssl_context=self._tls)  # type: ignore[arg-type]


class _Credentials(AuthBase):
    """A bearer token, or nothing: without it requests would look into a .netrc file."""

    def __init__(self, peer: WebPeerSettings) -> None:
        self._token = peer.token.get_secret_value() if peer.token is not None else None

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _session(peer: WebPeerSettings, tls: ssl.SSLContext | None) -> requests.Session:
    session = requests.Session()
    session.auth = _Credentials(peer)
    if peer.username is not None and peer.password is not None:
        session.auth = HTTPBasicAuth(peer.username, peer.password.get_secret_value())
    if tls is not None:
        session.mount("https://", _Authorities(tls))
    return session


def _ask(
    session: requests.Session,
    method: str,
    url: str,
    peer: WebPeerSettings,
    headers: Mapping[str, str],
    body: MultipartFiles | None = None,
) -> tuple[int, bytes]:
    """HTTP status and body of the answer."""
    try:
        with session.request(
            method,
            url,
            data=body,
            headers=dict(headers),
            timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
            allow_redirects=False,
            stream=True,
        ) as answer:
            return answer.status_code, _read(answer, peer)
    except requests.exceptions.SSLError as error:
        raise PeerError(
            f"No TLS connection to {_who(peer)}: one side refuses the other's certificate;"
            " check `tls.authorities` and the server's certificate.",
            transient=True,
        ) from error
    except requests.RequestException as error:
        raise PeerError(
            f"No answer from {_who(peer)}: it is away, or the connection broke off;"
            " check address and firewall.",
            transient=True,
        ) from error


def _read(answer: requests.Response, peer: WebPeerSettings) -> bytes:
    """The body, as long as it is of sensible length and comes in sensible time."""
    body = bytearray()
    deadline = time.monotonic() + ANSWER_SECONDS
    for piece in answer.iter_content(1 << 16):
        body += piece
        if len(body) > LARGEST_ANSWER_BYTES or time.monotonic() > deadline:
            raise PeerError(f"{_who(peer)} does not come to the end of its answer.", transient=True)
    return bytes(body)


def _statuses(body: bytes) -> dict[str, int]:
    """What a Store Instances Response says of each instance (PS3.18, annex I.2)."""
    try:
        answer = json.loads(body)
        stored = {_first(item, _INSTANCE): SUCCESS for item in _items(answer, _STORED)}
        failed = {
            _first(item, _INSTANCE): int(_first(item, _REASON)) for item in _items(answer, _FAILED)
        }
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return {}  # no DICOM JSON: nothing is known of any instance
    return {str(uid): status for uid, status in {**stored, **failed}.items()}


def _items(answer: Mapping[str, Mapping[str, list[object]]], tag: str) -> list[object]:
    return answer.get(tag, {}).get("Value", [])


def _first(item: object, tag: str) -> str:
    value = item[tag]["Value"][0]  # type: ignore[index]
    return value if isinstance(value, str) else str(int(value))


def _refused(code: int, peer: WebPeerSettings) -> PeerError:
    passing = code >= 500 or code in _PASSING
    if code in _REFUSING:
        reason = "does not let this node in: check its token, or user name and password"
    elif passing:
        reason = "cannot take images at the moment"
    else:
        reason = "does not take images at this address: check `url`"
    return PeerError(f"{_who(peer)} {reason} (HTTP status {code}).", transient=passing)


def _who(peer: WebPeerSettings) -> str:
    return f"{peer.name} ({peer.url})"
