"""Mutual TLS both ways: DCMTK and our own side, with every certificate that must be refused."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from support.certificates import Credential, Office, dcmtk
from support.ct_factory import make_series
from support.peers import (
    Ports,
    Process,
    free_port,
    listening,
    node_settings,
    require_program,
    running,
    wait_until,
    write_node,
)

from dicom_node.certificates import check_certificates, read_certificates
from dicom_node.errors import ConfigurationError, PeerError
from dicom_node.sending.calls import echo, send_files
from dicom_node.settings import PeerSettings, TlsSettings
from dicom_node.tls import client_context, public_context, server_context

REFUSED = {
    "stranger": Office.of_a_stranger,
    "expired": Office.expired,
    "self-signed": Office.self_signed,
}
"""Certificates that neither side takes."""

DAY = 86400.0


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    return Office(tmp_path_factory.mktemp("office"))


@dataclass
class Node:
    """A receiver that takes TLS only."""

    process: Process
    peer: PeerSettings
    home: Path

    def refusals(self) -> int:
        return self.process.output.count("TLS handshake failed")


@pytest.fixture(scope="module")
def receiver(office: Office, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    home, ports, tls = tmp_path_factory.mktemp("node"), Ports(), office.good("node")
    listen = {"host": "127.0.0.1", "port": ports.node, "tls": True}
    files = {name: str(path) for name, path in tls if path is not None}
    config = write_node(home, node_settings(ports, listen=listen, tls=files))
    command = [sys.executable, "-m", "dicom_node.cli", "receive", "-c", config]
    peer = PeerSettings(name="node", ae_title="DENOISE", host="127.0.0.1", port=ports.node)
    with running(command, home / "receive.log", cwd=home) as process:
        wait_until("the receiver listens", lambda: listening(ports.node))
        yield Node(process, peer, home)
        assert process.stop() == 0
    assert "Traceback" not in process.output


def client(program: str, node: Node, options: list[str], *files: Path) -> int:
    """A DCMTK client's exit code."""
    command = [
        require_program(program), *options, "-aec", "DENOISE", "-to", "10", "-ta", "10",
        "127.0.0.1", str(node.peer.port), *map(str, files),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode


def test_dcmtk_stores_over_tls(receiver: Node, office: Office, tmp_path: Path) -> None:
    files = make_series(tmp_path, slices=3)
    assert client("storescu", receiver, [*dcmtk(office.good()), "-xe"], *files) == 0
    assert len(list((receiver.home / "var" / "inbox").rglob("*.dcm"))) == 3


def test_our_own_sender_stores_over_tls(receiver: Node, office: Office, tmp_path: Path) -> None:
    files = make_series(tmp_path, slices=3, study="ours")
    tls = client_context(office.good())
    sent = send_files(receiver.peer, files, calling_ae="SCANNER", tls=tls)
    assert [item.status for item in sent] == [0, 0, 0]


@pytest.mark.parametrize("which", list(REFUSED))
def test_a_client_with_a_wrong_certificate_is_refused(
    receiver: Node, office: Office, which: str
) -> None:
    before = receiver.refusals()
    tls = REFUSED[which](office)
    with pytest.raises(PeerError):
        echo(receiver.peer, calling_ae="SCANNER", tls=client_context(tls))
    assert client("echoscu", receiver, dcmtk(tls)) != 0
    wait_until("each refusal has its line", lambda: receiver.refusals() >= before + 2)
    still_serves(receiver, office)


def test_a_client_without_a_certificate_is_refused(receiver: Node, office: Office) -> None:
    before = receiver.refusals()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(office.good().authorities)
    with pytest.raises(PeerError):
        echo(receiver.peer, calling_ae="SCANNER", tls=context)
    wait_until("the refusal has its line", lambda: receiver.refusals() > before)
    still_serves(receiver, office)


def test_a_client_without_tls_is_refused(receiver: Node, office: Office) -> None:
    before = receiver.refusals()
    assert client("echoscu", receiver, []) != 0
    with pytest.raises(PeerError):
        echo(receiver.peer, calling_ae="SCANNER")
    wait_until("each refusal has its line", lambda: receiver.refusals() >= before + 2)
    still_serves(receiver, office)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_a_client_of_an_old_tls_version_is_refused(receiver: Node, office: Office) -> None:
    before = receiver.refusals()
    context = client_context(office.good())
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(PeerError):
        echo(receiver.peer, calling_ae="SCANNER", tls=context)
    wait_until("the refusal has its line", lambda: receiver.refusals() > before)


def test_silent_clients_do_not_block_others(receiver: Node, office: Office) -> None:
    """Clients that connect and never begin the handshake, or stop in the middle of it."""
    held = [socket.create_connection(("127.0.0.1", receiver.peer.port)) for _ in range(10)]
    try:
        for at, connection in enumerate(held):
            connection.sendall(b"\x16\x03\x01\x02\x00\x01"[: at % 7])
        still_serves(receiver, office)
    finally:
        for connection in held:
            connection.close()


def still_serves(receiver: Node, office: Office) -> None:
    assert echo(receiver.peer, calling_ae="SCANNER", tls=client_context(office.good())) > 0


def storescp(options: list[str], folder: Path) -> tuple[list[str], PeerSettings]:
    port = free_port()
    folder.mkdir()
    command = [
        require_program("storescp"), *options, "-od", str(folder), "+xa", "-aet", "PACS", str(port)
    ]  # fmt: skip
    return command, PeerSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)


def test_images_go_to_dcmtk_over_tls(office: Office, tmp_path: Path) -> None:
    files = make_series(tmp_path / "ct", slices=3)
    command, peer = storescp(dcmtk(office.good("pacs")), tmp_path / "pacs")
    with running(command, tmp_path / "storescp.log", cwd=tmp_path):
        wait_until("storescp listens", lambda: listening(peer.port))
        tls = client_context(office.good())
        sent = send_files(peer, files, calling_ae="DENOISE", tls=tls)
        assert [item.status for item in sent] == [0, 0, 0]
        assert len(list((tmp_path / "pacs").iterdir())) == 3


@pytest.mark.parametrize("which", [*REFUSED, "another host", "no TLS"])
def test_a_peer_with_a_wrong_certificate_gets_nothing(
    office: Office, tmp_path: Path, which: str
) -> None:
    credential: Credential | None = {**REFUSED, "another host": Office.for_another_host}.get(which)
    files = make_series(tmp_path / "ct", slices=1)
    options = dcmtk(credential(office)) if credential else []
    command, peer = storescp(options, tmp_path / "pacs")
    with running(command, tmp_path / "storescp.log", cwd=tmp_path):
        wait_until("storescp listens", lambda: listening(peer.port))
        with pytest.raises(PeerError) as error:
            send_files(peer, files, calling_ae="DENOISE", tls=client_context(office.good()))
    assert "\n" not in str(error.value)
    assert "TLS" in str(error.value)
    assert list((tmp_path / "pacs").iterdir()) == []


@pytest.mark.parametrize("which", list(REFUSED))
def test_a_peer_that_refuses_our_certificate_is_one_sentence(
    office: Office, tmp_path: Path, which: str
) -> None:
    """With TLS 1.3 the refusal comes only after the handshake."""
    command, peer = storescp(dcmtk(office.good("pacs")), tmp_path / "pacs")
    with running(command, tmp_path / "storescp.log", cwd=tmp_path):
        wait_until("storescp listens", lambda: listening(peer.port))
        with pytest.raises(PeerError) as error:
            echo(peer, calling_ae="DENOISE", tls=client_context(REFUSED[which](office)))
    assert "\n" not in str(error.value)


def test_a_certificate_says_how_long_it_lasts(office: Office) -> None:
    now = time.time()
    ends = datetime.now(UTC) + timedelta(days=100)
    tls = office.good("lasts", ends=ends)
    own, *_ = read_certificates(tls)
    assert own.path == tls.certificate
    assert own.days_left(now) == pytest.approx(100, abs=0.01)
    assert f"{ends:%Y-%m-%d}" in check_certificates(tls, now=now)


@pytest.mark.parametrize(
    ("days", "words"), [(-1, "has expired"), (20, "ends in 20 days"), (-20, "has expired")]
)
def test_a_certificate_that_ends_is_found(office: Office, days: int, words: str) -> None:
    ends = datetime.now(UTC) + timedelta(days=days, hours=1)
    with pytest.raises(ConfigurationError, match=words) as error:
        check_certificates(office.good(f"ends{days}", ends=ends), now=time.time())
    assert "\n" not in str(error.value)


def test_a_certificate_of_tomorrow_is_found(office: Office) -> None:
    tls = office.self_signed(begins=datetime.now(UTC) + timedelta(days=1))
    with pytest.raises(ConfigurationError, match="not valid yet"):
        check_certificates(tls, now=time.time())


def changed(tls: TlsSettings, **files: Path) -> TlsSettings:
    return tls.model_copy(update=files)


def test_unusable_files_are_reported_in_a_sentence(office: Office, tmp_path: Path) -> None:
    good, other = office.good(), office.good("other")
    text = tmp_path / "text.pem"
    text.write_text("no certificate\n")
    cut = tmp_path / "cut.pem"
    cut.write_bytes(good.authorities.read_bytes()[:300])
    wrong = {
        "cannot be read": changed(good, key=tmp_path / "none.pem"),
        "is not the key of": changed(good, key=other.key),
        "cannot be used": changed(good, certificate=text),
        "holds no readable certificate": changed(good, authorities=text),
        "no readable certificate": changed(good, authorities=cut),
        "without a password": changed(good, key=locked(good.key, tmp_path)),
    }
    for words, tls in wrong.items():
        for use in (server_context, client_context, lambda tls: check_certificates(tls, now=0)):
            with pytest.raises(ConfigurationError, match=words) as error:
                use(tls)
            assert "\n" not in str(error.value)


CBC = "ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA"
GCM = "ECDHE-ECDSA-AES256-GCM-SHA384"


@pytest.mark.parametrize(("suites", "code"), [(CBC, 1), (GCM, 0)])
def test_a_client_with_cbc_suites_only_is_refused(
    receiver: Node, office: Office, suites: str, code: int
) -> None:
    tls = office.good()
    command = [
        require_program("openssl"), "s_client", "-connect", f"127.0.0.1:{receiver.peer.port}",
        "-tls1_2", "-cipher", f"{suites}:@SECLEVEL=0", "-cert", str(tls.certificate),
        "-key", str(tls.key), "-CAfile", str(tls.authorities), "-verify_return_error",
    ]  # fmt: skip
    done = subprocess.run(command, input=b"", capture_output=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    still_serves(receiver, office)


@pytest.mark.parametrize(("suites", "taken"), [(CBC, False), (GCM, True)])
def test_a_server_with_cbc_suites_only_is_not_called(
    office: Office, tmp_path: Path, suites: str, taken: bool
) -> None:
    tls, port = office.good(), free_port()
    command = [
        require_program("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-tls1_2",
        "-cipher", f"{suites}:@SECLEVEL=0", "-cert", str(tls.certificate), "-key", str(tls.key),
        "-quiet",
    ]  # fmt: skip
    with running(command, tmp_path / "s_server.log", cwd=tmp_path):
        wait_until("the server listens", lambda: listening(port))
        with socket.create_connection(("127.0.0.1", port), 60) as plain:
            assert shakes_hands(plain, client_context(tls)) is taken


def shakes_hands(plain: socket.socket, context: ssl.SSLContext) -> bool:
    try:
        context.wrap_socket(plain, server_hostname="127.0.0.1").close()
    except OSError:
        return False
    return True


def test_every_context_offers_the_same_suites(office: Office) -> None:
    contexts = [server_context(office.good()), client_context(office.good()), public_context()]
    for context in contexts:
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        for suite in context.get_ciphers():
            assert suite["aead"], suite["name"]
            assert suite["kea"] in ("kx-ecdhe", "kx-any"), suite["name"]


def test_an_encrypted_key_opens_with_its_password_alone(office: Office, tmp_path: Path) -> None:
    good = office.good()
    files = {**dict(good), "key": locked(good.key, tmp_path)}
    for use in (server_context, client_context):
        assert use(TlsSettings(**{**files, "key_password": "secret"}))
        for password in (None, "wrong", ""):
            with pytest.raises(ConfigurationError, match=r"`tls\.key_password`") as error:
                use(TlsSettings(**{**files, "key_password": password}))
            assert "wrong" not in str(error.value)


def locked(key: Path, folder: Path) -> Path:
    """The key under a password; nobody may be asked for it at a terminal."""
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    path = folder / "locked.key"
    path.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    return path
