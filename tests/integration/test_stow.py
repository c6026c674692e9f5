"""STOW-RS: to Orthanc's DICOMweb plugin, and to a server that misbehaves in every way."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydicom import dcmread
from support.ct_factory import make_series
from support.peers import (
    Orthanc,
    Ports,
    listening,
    node_settings,
    require_program,
    run_command,
    running,
    wait_until,
    write_node,
)

from dicom_node import deadline
from dicom_node.errors import PeerError, UnreadableFile
from dicom_node.sending import stow
from dicom_node.sending.outcome import SendResult
from dicom_node.sending.stow import WebSession, web_echo
from dicom_node.settings import TlsSettings, WebPeerSettings
from dicom_node.tls import client_context

PLUGINS = Path("/usr/share/orthanc/plugins")


def send(peer: WebPeerSettings, files: list[Path], **options: Any) -> list[SendResult]:
    with WebSession(peer, files, **options) as session:
        return list(session.send())


def uids(files: list[Path]) -> list[str]:
    return [str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in files]


def answer(stored: list[str] = [], failed: dict[str, int] = {}) -> bytes:  # noqa: B006
    """A Store Instances Response in DICOM JSON."""
    told: dict[str, Any] = {}
    if stored:
        items = [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in stored]
        told["00081199"] = {"vr": "SQ", "Value": items}
    if failed:
        items = [
            {
                "00081155": {"vr": "UI", "Value": [uid]},
                "00081197": {"vr": "US", "Value": [reason]},
            }
            for uid, reason in failed.items()
        ]
        told["00081198"] = {"vr": "SQ", "Value": items}
    return json.dumps(told).encode()


def all_stored(request: bytes) -> bytes:
    """The answer that names every instance of a request as stored."""
    begun = [at.start() - 128 for at in re.finditer(b"DICM", request)]
    sent = [dcmread(BytesIO(request[at:]), stop_before_pixels=True) for at in begun]
    return answer([str(dataset.SOPInstanceUID) for dataset in sent])


class Server:
    """A DICOMweb server that answers as told: HTTP status and body, or an act of its own."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes] | Callable[[BaseHTTPRequestHandler], None]] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.scheme = "http"
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.requests.append((self.path, dict(self.headers), body))
                planned = server.answers.pop(0) if server.answers else (200, all_stored(body))
                if callable(planned):
                    planned(self)
                    return
                code, content = planned
                self.send_response(code)
                self.send_header("Content-Type", "application/dicom+json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True

    def peer(self, **changes: Any) -> WebPeerSettings:
        url = f"{self.scheme}://127.0.0.1:{self.http.server_port}/dicom-web"
        return WebPeerSettings(name="cloud", url=url, **changes)

    @contextlib.contextmanager
    def serving(self) -> Iterator[Server]:
        thread = threading.Thread(target=self.http.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self.http.shutdown()
            thread.join()
            self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().serving() as server:
        yield server


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return make_series(tmp_path / "scan", slices=3)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Orthanc, WebPeerSettings]]:
    """Orthanc with its DICOMweb plugin."""
    plugin = PLUGINS / "libOrthancDicomWeb.so"
    program = require_program("Orthanc")
    if not plugin.exists():
        pytest.skip("Orthanc's DICOMweb plugin is not installed (Debian package orthanc-dicomweb)")
    folder, ports = tmp_path_factory.mktemp("orthanc"), Ports()
    settings = {
        "StorageDirectory": "stored", "IndexDirectory": "stored", "HttpPort": ports.rest,
        "DicomPort": ports.pacs, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "Plugins": [str(plugin)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    command = [program, folder / "orthanc.json"]
    with running(command, folder / "orthanc.log", cwd=folder) as process:
        wait_until("Orthanc answers", lambda: listening(ports.rest))
        url = f"http://127.0.0.1:{ports.rest}/dicom-web"
        yield Orthanc(ports, process), WebPeerSettings(name="archive", url=url)


def test_an_archive_takes_every_image_as_it_lies_on_disk(
    archive: tuple[Orthanc, WebPeerSettings], tmp_path: Path
) -> None:
    orthanc, peer = archive
    files = make_series(tmp_path / "scan", slices=45)
    results = send(peer, files)
    assert [item.path for item in results] == files
    assert all(item.status == 0 for item in results)
    uid = str(dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID)
    arrived = orthanc.download(uid, tmp_path / "arrived")
    assert {dcmread(path).PixelData for path in arrived} == {
        dcmread(path).PixelData for path in files
    }
    assert len(arrived) == 45


def test_an_archive_that_has_the_images_says_so(
    archive: tuple[Orthanc, WebPeerSettings], files: list[Path]
) -> None:
    _, peer = archive
    assert all(item.ok for item in send(peer, files))
    assert all(item.ok for item in send(peer, files))


def test_an_archive_answers_an_echo(archive: tuple[Orthanc, WebPeerSettings]) -> None:
    assert 0 < web_echo(archive[1]) < 10


def test_each_image_gets_the_status_the_server_gives_it(server: Server, files: list[Path]) -> None:
    first, second, third = uids(files)
    server.answers = [(202, answer([first], {second: 0xA700, third: 0xC000}))]
    results = send(server.peer(), files)
    assert [item.status for item in results] == [0, 0xA700, 0xC000]
    assert [item.ok for item in results] == [True, False, False]
    assert [item.transient for item in results] == [False, True, False]


def test_a_conflict_is_reported_image_by_image(server: Server, files: list[Path]) -> None:
    server.answers = [(409, answer(failed=dict.fromkeys(uids(files), 0x0111)))]
    assert all(item.ok for item in send(server.peer(), files))  # it has them already


def test_an_image_missing_from_the_response_is_sent_again(
    server: Server, files: list[Path]
) -> None:
    first, second, _ = uids(files)
    server.answers = [(200, answer([first, second]))]
    results = send(server.peer(), files)
    assert [item.status for item in results] == [0, 0, None]
    assert results[2].transient


NOT_STORED: dict[str, bytes] = {
    "nothing": b"",
    "a login page": b"<html><body>please log in</body></html>",
    "an empty object": b"{}",
    "an empty list": b"[]",
    "an empty model": b"<NativeDicomModel/>",
    "another instance": answer(["1.2.3"]),
    "nested a million times": b"[" * 1_000_000,
    "cut off": answer(["1.2.3"])[:-3],
    "an entity bomb": b'<!DOCTYPE a [<!ENTITY b "c">]><NativeDicomModel>&b;</NativeDicomModel>',
}


@pytest.mark.parametrize("code", [200, 202])
@pytest.mark.parametrize("body", NOT_STORED.values(), ids=NOT_STORED.keys())
def test_an_answer_that_names_no_image_stores_none(
    server: Server, files: list[Path], code: int, body: bytes
) -> None:
    server.answers = [(code, body)]
    results = send(server.peer(), files)
    assert [item.status for item in results] == [None, None, None]
    assert not any(item.ok or item.away for item in results)
    assert all(item.transient for item in results)
    assert f"does not name it as stored in its answer (HTTP status {code}" in results[0].sentence


def test_an_empty_body_counts_only_where_the_peer_says_so(
    server: Server, files: list[Path]
) -> None:
    told = server.peer(accept_empty_answer=True)
    server.answers = [(200, b""), (200, b" \n"), (202, b""), (200, b"{}")]
    results = [[item.status for item in send(told, files)] for _ in range(4)]
    assert results == [[0, 0, 0], [0, 0, 0], [None] * 3, [None] * 3]


@pytest.mark.parametrize("code", [200, 202])
@pytest.mark.parametrize("shape", ["object", "list", "list of one each", "xml"])
def test_every_shape_of_answer_is_read(
    server: Server, files: list[Path], code: int, shape: str
) -> None:
    first, second, third = uids(files)
    bodies = {
        "object": answer([first, second], {third: 272}),
        "list": b"[" + answer([first, second], {third: 272}) + b"]",
        "list of one each": b"[%s, %s, %s]"
        % (answer([first]), answer([second]), answer(failed={third: 272})),
        "xml": xml_answer([first, second], {third: 272}),
    }
    server.answers = [(code, bodies[shape])]
    assert [item.status for item in send(server.peer(), files)] == [0, 0, 0x0110]


def xml_answer(stored: list[str], failed: dict[str, int]) -> bytes:
    """The same as a Native DICOM Model (PS3.19, A.1)."""

    def attribute(tag: str, vr: str, content: str) -> str:
        return f'<DicomAttribute tag="{tag}" vr="{vr}">{content}</DicomAttribute>'

    def item(number: int, uid: str, more: str = "") -> str:
        value = attribute("00081155", "UI", f'<Value number="1">{uid}</Value>')
        return f'<Item number="{number}">{value}{more}</Item>'

    whole = "".join(item(number, uid) for number, uid in enumerate(stored, 1))
    part = "".join(
        item(number, uid, attribute("00081197", "US", f'<Value number="1">{reason}</Value>'))
        for number, (uid, reason) in enumerate(failed.items(), 1)
    )
    model = attribute("00081199", "SQ", whole) + attribute("00081198", "SQ", part)
    space = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel xmlns="{space}">{model}'
        "</NativeDicomModel>"
    ).encode()


@pytest.mark.parametrize("code", [200, 202])
def test_an_instance_named_under_another_class_is_not_stored(
    server: Server, files: list[Path], code: int
) -> None:
    mr, ct = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2"
    told = json.loads(answer(uids(files)))
    for item, named in zip(told["00081199"]["Value"], (ct, mr, ct), strict=True):
        item["00081150"] = {"vr": "UI", "Value": [named]}
    server.answers = [(code, json.dumps(told).encode())]
    results = send(server.peer(), files)
    assert [item.status for item in results] == [0, None, 0]
    assert "under another SOP class" in results[1].sentence


def test_an_instance_that_is_named_twice_has_failed(server: Server, files: list[Path]) -> None:
    server.answers = [(200, answer(uids(files), {uids(files)[1]: 0xA700}))]
    assert [item.status for item in send(server.peer(), files)] == [0, 0xA700, 0]


def test_the_body_is_the_files_between_boundaries(server: Server, files: list[Path]) -> None:
    send(server.peer(), files)
    path, headers, body = server.requests[0]
    assert path == "/dicom-web/studies"
    kind, _, boundary = headers["Content-Type"].partition("; boundary=")
    assert kind == 'multipart/related; type="application/dicom"'
    parts = body.split(f"\r\n--{boundary}".encode())
    assert parts[-1] == b"--\r\n"
    heads, contents = zip(*(part.split(b"\r\n\r\n", 1) for part in parts[1:-1]), strict=True)
    assert set(heads) == {b"\r\nContent-Type: application/dicom"}
    assert list(contents) == [path.read_bytes() for path in files]


def test_stopping_takes_effect_between_requests(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stow, "FILES_PER_REQUEST", 2)
    files = make_series(tmp_path / "scan", slices=5)
    with WebSession(server.peer(), files) as session:
        results = list(session.send(lambda: len(server.requests) == 2))
    assert [item.path for item in results] == files[:4]


@pytest.mark.parametrize(
    ("code", "transient", "words"),
    [
        (400, False, "check `url`"),
        (401, False, "check its token"),
        (403, False, "check its token"),
        (404, False, "check `url`"),
        (409, False, "check `url`"),
        (302, False, "check `url`"),
        (429, True, "at the moment"),
        (500, True, "at the moment"),
        (503, True, "at the moment"),
    ],
)
def test_a_refusal_of_the_whole_request(
    server: Server, files: list[Path], code: int, transient: bool, words: str
) -> None:
    server.answers = [(code, b"")]
    with pytest.raises(PeerError, match=f"(?s){words}.*HTTP status {code}") as error:
        send(server.peer(), files)
    assert error.value.transient is transient
    assert error.value.counted is (code == 500)  # it is there, and fails


def test_requests_carry_the_credentials(server: Server, files: list[Path]) -> None:
    send(server.peer(token="secret"), files)
    send(server.peer(username="node", password="word"), files)
    assert [headers["Authorization"] for _, headers, _ in server.requests] == [
        "Bearer secret",
        "Basic bm9kZTp3b3Jk",
    ]


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def babble(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\x04\x00\x00\x00")
    handler.close_connection = True


def break_off(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")
    handler.close_connection = True


def never_end(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b" " * 65536)


@pytest.mark.parametrize("act", [hang_up, babble, break_off])
def test_a_server_out_of_its_mind_is_tried_again_later(
    server: Server, files: list[Path], act: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    server.answers = [act]
    with pytest.raises(PeerError) as error:
        send(server.peer(), files)
    assert error.value.transient


@pytest.mark.parametrize("accept_empty_answer", [False, True])
def test_an_answer_without_end_counts_nothing_and_uses_up_attempts(
    server: Server, files: list[Path], accept_empty_answer: bool
) -> None:
    server.answers = [never_end]
    results = send(server.peer(accept_empty_answer=accept_empty_answer), files)
    assert [(item.ok, item.transient, item.away) for item in results] == [(False, True, False)] * 3
    assert "does not name it as stored in its answer (HTTP status 200" in results[0].sentence


@pytest.mark.parametrize(
    ("code", "transient", "counted"),
    [(503, True, False), (500, True, True), (401, False, False), (404, False, False)],
)
def test_an_error_page_of_any_length_means_what_its_status_says(
    server: Server, files: list[Path], code: int, transient: bool, counted: bool
) -> None:
    server.answers = [(code, b" " * (2 << 20))]
    with pytest.raises(PeerError, match=f"HTTP status {code}") as error:
        send(server.peer(), files)
    assert (error.value.transient, error.value.counted) == (transient, counted)


def test_a_silent_server_is_given_up(
    server: Server, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stow, "ANSWER_SECONDS", 0.2)
    released = threading.Event()
    server.answers = [lambda _: released.wait(30) and None]
    try:
        with pytest.raises(PeerError, match="No answer from cloud") as error:
            send(server.peer(), files)
    finally:
        released.set()
    assert error.value.transient


def test_an_answer_that_drips_is_given_up_in_all(
    server: Server, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stow, "ANSWER_SECONDS", 0.5)
    released = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        with contextlib.suppress(OSError):
            while not released.wait(0.05):
                handler.wfile.write(b" ")

    server.answers = [drip]
    try:
        with pytest.raises(PeerError, match="does not come to the end of its answer") as error:
            send(server.peer(), files)
    finally:
        released.set()
    assert (error.value.transient, error.value.counted) == (True, False)


def test_a_stop_is_not_held_up_by_an_answer_that_drips(
    server: Server, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "STOP_GRACE_SECONDS", 0.1)
    released = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        with contextlib.suppress(OSError):
            while not released.wait(0.05):
                handler.wfile.write(b" ")

    server.answers = [drip]
    with WebSession(server.peer(), files) as session:
        assert list(session.send(lambda: bool(server.requests))) == []
    released.set()


def test_the_proxies_of_the_environment_are_not_asked(
    server: Server, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert all(item.ok for item in send(server.peer(), files))


def test_an_unreachable_server_is_transient(server: Server, files: list[Path]) -> None:
    peer = server.peer().model_copy(update={"url": "http://127.0.0.1:9/dicom-web"})
    with pytest.raises(PeerError, match=r"No answer from cloud \(http://127.0.0.1:9") as error:
        send(peer, files)
    assert error.value.transient


def test_a_file_that_is_not_dicom_is_named(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "text.dcm"
    path.write_text("hello")
    with pytest.raises(UnreadableFile, match=r"text\.dcm cannot be sent"):
        send(server.peer(), [path])


def test_the_commands_speak_dicomweb(server: Server, files: list[Path], tmp_path: Path) -> None:
    url = server.peer().url
    settings = node_settings(Ports(), peers=[{"name": "cloud", "url": url}], destinations=["cloud"])
    config = write_node(tmp_path / "node", settings)
    echoed = run_command("echo", "cloud", "-c", config)
    assert echoed.stdout.startswith(f"cloud ({url}) answered in")
    sent = run_command("send", "cloud", files[0].parent, "-c", config)
    assert sent.stdout == f"cloud ({url}) stored 3 of 3 files.\n"
    assert [path for path, _, _ in server.requests] == [
        "/dicom-web/studies?limit=1",
        "/dicom-web/studies",
    ]


class TestHttps:
    """A server with a certificate of the site's own authority."""

    @pytest.fixture
    def authority(self) -> trustme.CA:
        return trustme.CA()

    @pytest.fixture
    def secured(self, authority: trustme.CA) -> Iterator[Server]:
        server = Server()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
        server.scheme = "https"
        with server.serving():
            yield server

    def context(self, folder: Path, authority: trustme.CA) -> ssl.SSLContext:
        own = authority.issue_cert("node.example")
        own.private_key_and_cert_chain_pem.write_to_path(folder / "node.pem")
        authority.cert_pem.write_to_path(folder / "authorities.pem")
        return client_context(
            TlsSettings(
                certificate=folder / "node.pem",
                key=folder / "node.pem",
                authorities=folder / "authorities.pem",
            )
        )

    def test_the_sites_authority_is_trusted(
        self, secured: Server, authority: trustme.CA, files: list[Path], tmp_path: Path
    ) -> None:
        results = send(secured.peer(), files, tls=self.context(tmp_path, authority))
        assert all(item.ok for item in results)

    def test_another_authority_is_not(
        self, secured: Server, files: list[Path], tmp_path: Path
    ) -> None:
        with pytest.raises(PeerError, match="No TLS connection to cloud") as error:
            send(secured.peer(), files, tls=self.context(tmp_path, trustme.CA()))
        assert error.value.transient

    def test_only_the_named_authorities_are_trusted(
        self,
        secured: Server,
        authority: trustme.CA,
        files: list[Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        authority.cert_pem.write_to_path(tmp_path / "public.pem")
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, str(tmp_path / "public.pem"))
        with pytest.raises(PeerError, match="No TLS connection to cloud"):
            send(secured.peer(), files, tls=self.context(tmp_path, trustme.CA()))

    def test_without_authorities_those_of_the_system_count(
        self, secured: Server, files: list[Path]
    ) -> None:
        with pytest.raises(PeerError, match="No TLS connection to cloud"):
            send(secured.peer(), files)
