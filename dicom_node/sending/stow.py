"""STOW-RS user agent: images to a DICOMweb server (PS3.18, section 10.5).

dicomweb-client decodes every image and does not return which of them a server refused; this sends
the files unchanged and reads the response image by image.
"""

from __future__ import annotations

import base64
import secrets
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from dicom_node.dimse.status import SUCCESS
from dicom_node.errors import PeerError, UnreadableFile
from dicom_node.sending.outcome import SendResult
from dicom_node.sending.outgoing import OutgoingFile, describe_file
from dicom_node.sending.store_response import StoreResponse, read_response
from dicom_node.settings import WebPeerSettings
from dicom_node.web_client import Answer, AnswerTooLong, ExchangeFailed, exchange

FILES_PER_REQUEST = 20
"""At most this many images are sent again after a lost response."""

ANSWER_SECONDS = 120.0
"""Time for a server to respond in full; it stores the whole request first."""

MAX_SEARCH_BYTES = 16 << 20
"""Longest response to the search of an echo; some servers ignore its limit."""

PIECE_BYTES = 1 << 16
"""A file is read and sent in pieces of this size."""

_DICOM, _JSON = "application/dicom", "application/dicom+json"
_OK, _PARTIAL, _NOT_FOUND, _CONFLICT = 200, 202, 404, 409
_TRANSIENT = frozenset({408, 425, 429})
_REFUSING = frozenset({401, 403})
_AWAY = frozenset({*_TRANSIENT, 502, 503, 504, 507})
"""The server, or a system behind it, stores nothing at present."""


def _never() -> bool:
    return False


class WebSession:
    """Sends files to a DICOMweb server; use it as a context manager.

    Args:
        peer: Destination.
        files: Files to send, each unchanged.
        tls: TLS context with the authorities and this node's certificate; None: the operating
            system's authorities, no certificate.

    Raises:
        UnreadableFile: A file is not DICOM.
    """

    def __init__(
        self, peer: WebPeerSettings, files: Sequence[Path], *, tls: ssl.SSLContext | None = None
    ) -> None:
        self._peer, self._tls = peer, tls
        self._files = [describe_file(path) for path in files]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do nothing: each request has a connection of its own."""

    def send(self, should_stop: Callable[[], bool] = _never) -> Iterator[SendResult]:
        """Send the files in order, one result each; end early when asked to stop.

        Raises:
            PeerError: The server cannot be reached or does not accept requests of this node.
        """
        for begin in range(0, len(self._files), FILES_PER_REQUEST):
            if should_stop():
                return
            try:
                results = self._store(self._files[begin : begin + FILES_PER_REQUEST], should_stop)
            except PeerError:
                if should_stop():  # aborted for that reason; the images will be sent again
                    return
                raise
            yield from results

    def _store(
        self, files: Sequence[OutgoingFile], should_stop: Callable[[], bool]
    ) -> list[SendResult]:
        body = MultipartFiles([file.path for file in files])
        headers = {"Content-Type": body.content_type, "Accept": _JSON}
        url = f"{self._peer.url}/studies"
        answer = _ask("POST", url, self._peer, headers, self._tls, body, should_stop)
        if self._peer.accept_empty_answer and _is_empty_success(answer):
            return [SendResult(file.path, file.sop_instance_uid, SUCCESS) for file in files]
        response = read_response(answer.body)
        named = any(response.names(file.sop_instance_uid) for file in files)
        if answer.status in (_OK, _PARTIAL) or (answer.status == _CONFLICT and named):
            return [_result(file, response, answer) for file in files]
        raise _refused(answer.status, self._peer)


class MultipartFiles:
    """DICOM files as a multipart/related request body (PS3.18, 8.6.1.2), read while it is sent.

    Args:
        paths: The files, sent unchanged.

    Raises:
        UnreadableFile: A file is missing.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        boundary = secrets.token_hex(16)
        head = f"\r\n--{boundary}\r\nContent-Type: {_DICOM}\r\n\r\n".encode()
        self._head, self._tail = head, f"\r\n--{boundary}--\r\n".encode()
        self._paths = tuple(paths)
        self.content_type = f'multipart/related; type="{_DICOM}"; boundary={boundary}'
        try:
            sizes = [path.stat().st_size for path in self._paths]
        except OSError as error:
            raise UnreadableFile(f"{error.filename} cannot be read: it is missing.") from error
        self._length = sum(sizes) + len(sizes) * len(head) + len(self._tail)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        for path in self._paths:
            yield self._head
            with path.open("rb") as file:
                while piece := file.read(PIECE_BYTES):
                    yield piece
        yield self._tail


def web_echo(peer: WebPeerSettings, *, tls: ssl.SSLContext | None = None) -> float:
    """Test the connection to a DICOMweb server by a search for one study (QIDO-RS).

    Returns:
        Duration in seconds.

    Raises:
        PeerError: The server cannot be reached or does not authorise this node.
    """
    begin = time.perf_counter()
    url = f"{peer.url}/studies?limit=1"
    code = _ask("GET", url, peer, {"Accept": _JSON}, tls, max_bytes=MAX_SEARCH_BYTES).status
    if code in _REFUSING or code >= 500 or code == _NOT_FOUND:
        raise _refused(code, peer)
    return time.perf_counter() - begin


def _ask(
    method: str,
    url: str,
    peer: WebPeerSettings,
    headers: dict[str, str],
    tls: ssl.SSLContext | None,
    body: MultipartFiles | bytes = b"",
    should_stop: Callable[[], bool] = _never,
    **limits: int,
) -> Answer:
    try:
        return exchange(
            method,
            url,
            seconds=ANSWER_SECONDS,
            headers={**headers, **_credentials(peer)},
            body=body,
            tls=tls,
            should_stop=should_stop,
            **limits,
        )
    except AnswerTooLong as error:  # the server answered; its status is enough
        return error.answer
    except ExchangeFailed as error:
        raise _no_answer(peer, error) from error


def _is_empty_success(answer: Answer) -> bool:
    return answer.status == _OK and answer.whole and not answer.body.strip()


def _credentials(peer: WebPeerSettings) -> dict[str, str]:
    if peer.username is not None and peer.password is not None:
        pair = f"{peer.username}:{peer.password.get_secret_value()}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    if peer.token is not None:
        return {"Authorization": f"Bearer {peer.token.get_secret_value()}"}
    return {}


def _result(file: OutgoingFile, response: StoreResponse, answer: Answer) -> SendResult:
    """Result of one file by the response (PS3.18, 10.5.3.1: stored instances are named)."""
    uid = file.sop_instance_uid
    if uid in response.failed:
        return SendResult(file.path, uid, response.failed[uid])
    if response.stored.get(uid) in ("", file.sop_class_uid):
        return SendResult(file.path, uid, SUCCESS)
    if uid in response.stored:
        return SendResult(file.path, uid, None, "names it under another SOP class")
    kind = answer.content_type or "no media type"
    words = f"does not name it as stored in its answer (HTTP status {answer.status}, {kind})"
    return SendResult(file.path, uid, None, words)


def _no_answer(peer: WebPeerSettings, error: ExchangeFailed) -> PeerError:
    if error.tls:
        return PeerError(
            f"No TLS connection to {_who(peer)}: {error}; check `tls.authorities` and the"
            " server's certificate.",
            transient=True,
        )
    return PeerError(
        f"No answer from {_who(peer)}: {error}; check address and firewall.",
        transient=True,
    )


def _refused(code: int, peer: WebPeerSettings) -> PeerError:
    passing = code >= 500 or code in _TRANSIENT
    if code in _REFUSING:
        reason = "does not let this node in: check its token, or user name and password"
    elif passing:
        reason = "cannot take images at the moment"
    else:
        reason = "does not take images at this address: check `url`"
    return PeerError(
        f"{_who(peer)} {reason} (HTTP status {code}).",
        transient=passing,
        counted=passing and code not in _AWAY,
    )


def _who(peer: WebPeerSettings) -> str:
    return f"{peer.name} ({peer.url})"
