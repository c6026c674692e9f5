"""What the node writes can be read by its own user alone, whatever the umask that it is given."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.ct_factory import make_series
from support.peers import (
    Ports,
    free_port,
    listening,
    node,
    node_settings,
    run_command,
    running,
    wait_until,
    write_node,
)

from dicom_node.cli import main
from dicom_node.logs import configure_logging
from dicom_node.processes.parts import run_part
from dicom_node.sending.calls import send_files
from dicom_node.settings import PeerSettings, Settings, load_settings
from dicom_node.settings.exposure import (
    open_listeners,
    plain_secrets,
    readable_files,
    readable_secrets,
)

GROUP_AND_OTHERS = 0o077

Made = Callable[..., Settings]


@pytest.fixture(autouse=True)
def _careless_umask() -> Iterator[None]:
    """As systems have it: everybody may read."""
    before = os.umask(0o000)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """Permissions of the folder and of everything below it."""
    return {
        str(path.relative_to(folder.parent)): stat.S_IMODE(path.stat().st_mode)
        for path in (folder, *folder.rglob("*"))
    }


LONG_SECONDS = 300.0
"""A worker on a busy machine takes a minute to begin."""


def send_three(folder: Path, ports: Ports) -> None:
    me = PeerSettings(name="node", ae_title="DENOISE", host="127.0.0.1", port=ports.node)
    sent = send_files(me, make_series(folder, slices=3), calling_ae="CTSCAN")
    assert [one.ok for one in sent] == [True] * 3


def test_nobody_else_reads_what_the_node_writes(tmp_path: Path) -> None:
    ports, home = Ports(), tmp_path / "node"
    web = {"host": "127.0.0.1", "port": free_port()}
    config = write_node(home, node_settings(ports, web=web, audit={"file": "var/audit.log"}))
    with node(config, ports.node):
        send_three(tmp_path / "scanner", ports)
        results = home / "var" / "outbox"
        wait_until("a derived series", lambda: [*results.glob("*/*.dcm")], LONG_SECONDS)
        assert run_command("status", "-c", config).returncode == 0
        found = modes(home / "var")
    for name in ("ledger.db", "audit.log", "audit.key", "node.lock", "inbox", "outbox", "metrics"):
        assert f"var/{name}" in found
    assert {name: oct(mode) for name, mode in found.items() if mode & GROUP_AND_OTHERS} == {}


def test_a_group_reads_what_it_may_and_writes_nothing(tmp_path: Path) -> None:
    ports, home = Ports(), tmp_path / "node"
    config = write_node(home, node_settings(ports, storage_access="group"))
    command = [sys.executable, "-m", "dicom_node.cli", "receive", "-c", config]
    with running(command, home / "receive.log", cwd=home):
        wait_until("the receiver listens", lambda: listening(ports.node))
        send_three(tmp_path / "scanner", ports)
        found = modes(home / "var")
    closed = stat.S_IWGRP | stat.S_IRWXO
    assert {name: oct(mode) for name, mode in found.items() if mode & closed} == {}
    assert {mode & stat.S_IRGRP for name, mode in found.items() if "inbox" in name} == {
        stat.S_IRGRP
    }


def test_results_that_a_user_asks_for_have_the_user_s_modes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.umask(0o027)
    for words in (["init", str(tmp_path / "site")], [*_denoise(tmp_path)]):
        monkeypatch.setattr(sys, "argv", ["dicom-node", *words])
        with pytest.raises(SystemExit):
            main()
        os.umask(0o027)
    written = [*(tmp_path / "site").iterdir(), *(tmp_path / "out").glob("*.dcm")]
    assert len(written) > 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o640}


def _denoise(folder: Path) -> list[str]:
    make_series(folder / "in", slices=3)
    return ["denoise", str(folder / "in"), str(folder / "out"), "--model", "identity"]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    def settings(**changes: Any) -> Settings:
        return load_settings(write_node(tmp_path / "node", node_settings(Ports(), **changes)))

    return settings


def test_a_storage_that_others_can_read_is_found(made: Made) -> None:
    settings = made()
    settings.storage.mkdir(mode=0o755)
    settings.inbox_folder.mkdir(mode=0o755)
    (settings.storage / "reports").mkdir(mode=0o700)
    (sentence,) = readable_files(settings)
    assert "read inbox in" in sentence
    assert f"`chmod -R go-rwx {settings.storage}`" in sentence
    settings.storage.chmod(0o700)
    assert list(readable_files(settings)) == []


def test_a_group_that_was_asked_for_is_no_exposure(made: Made) -> None:
    settings = made(storage_access="group")
    settings.storage.mkdir(mode=0o750)
    settings.inbox_folder.mkdir(mode=0o750)
    assert list(readable_files(settings)) == []
    settings.inbox_folder.chmod(0o755)
    settings.storage.chmod(0o755)
    assert "`chmod -R o-rwx" in next(readable_files(settings))


def test_files_elsewhere_are_looked_at_too(made: Made, tmp_path: Path) -> None:
    key = tmp_path / "node.key"
    key.write_text("a key")
    key.chmod(0o644)
    tls = {"certificate": str(key), "key": str(key), "authorities": str(key)}
    audit = tmp_path / "audit.log"
    audit.write_text("messages")
    audit.chmod(0o600)
    sentences = list(readable_files(made(tls=tls, audit={"file": str(audit)})))
    assert sentences == [f"Other users of this machine can read {key}: run `chmod go-rwx {key}`."]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("notify: {email: {password: secret}}", True),
        ("peers: [{name: a, token: secret}]", True),
        ("peers: [{name: a, token: 'Bearer${TOKEN}'}]", True),
        ("database: postgresql://node:secret@host/name", True),
        ("peers: [{name: a, token: '${TOKEN}'}]", False),
        ("database: 'postgresql://node:${PASSWORD}@host/name'", False),
        ("peers: [{name: a, token: null}]", False),
        ("ae_title: [", False),
    ],
)
def test_passwords_that_others_can_read_in_the_file_are_found(
    tmp_path: Path, text: str, told: bool
) -> None:
    config = tmp_path / "node.yaml"
    config.write_text(text)
    config.chmod(0o644)
    assert [f"`chmod o-rwx {config}`" in one for one in readable_secrets(config)] == [True] * told
    config.chmod(0o640)
    assert list(readable_secrets(config)) == []


@pytest.mark.parametrize(
    ("changes", "open_to_all"),
    [
        ({"listen": {"host": "0.0.0.0"}}, True),
        ({"listen": {"host": "::"}}, True),
        ({"listen": {"host": "192.0.2.1"}}, True),
        ({"listen": {"host": "127.0.0.1"}}, False),
        ({"listen": {"host": "localhost"}}, False),
        ({"accept": {"calling": ["CTSCAN"]}, "listen": {"host": "0.0.0.0"}}, False),
        ({"accept": {"hosts": ["192.0.2.0/24"]}, "listen": {"host": "0.0.0.0"}}, False),
    ],
)
def test_an_open_receiver_is_reported(
    made: Made, changes: dict[str, Any], open_to_all: bool
) -> None:
    sentences = list(open_listeners(made(**changes)))
    assert any("may send images" in one for one in sentences) is open_to_all


def test_the_shipped_settings_are_reported_as_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_command("init", tmp_path / "site").returncode == 0
    settings = load_settings(tmp_path / "site" / "node.yaml")
    assert "0.0.0.0:11112 may send images, under any AE title" in next(open_listeners(settings))
    done = run_command("check", "-c", tmp_path / "site" / "node.yaml", "--json")
    assert '"open doors",\n    "verdict": "warning"' in done.stdout


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        (
            {"peers": [{"name": "pacs", "url": "http://pacs.example/x", "token": "t"}]},
            "The token or password for pacs",
        ),
        (
            {
                "notify": {
                    "email": {
                        "host": "mail.example",
                        "sender": "a@b",
                        "recipients": ["c@d"],
                        "username": "u",
                        "password": "p",
                    }
                }
            },
            "starttls",
        ),
        (
            {"notify": {"webhook": {"url": "http://chat.example/x", "token": "t"}}},
            "`notify.webhook`",
        ),
        ({"peers": [{"name": "pacs", "url": "http://127.0.0.1/x", "token": "t"}]}, ""),
        ({"peers": [{"name": "pacs", "url": "https://pacs.example", "token": "t"}]}, ""),
    ],
)
def test_unencrypted_secrets_are_reported(made: Made, changes: dict[str, Any], word: str) -> None:
    sentences = list(plain_secrets(made(**changes)))
    assert len(sentences) == bool(word)
    assert all(word in one for one in sentences)


def test_a_starting_receiver_logs_what_is_open(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = made(listen={"host": "0.0.0.0", "port": free_port()})
    configure_logging(settings.logging, process="test")
    run_part("receive", settings, should_stop=lambda: True)
    said = capsys.readouterr()
    assert "may send images, under any AE title" in said.out + said.err
