"""A secret of the configuration appears in no output, log or row of the ledger."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from support.certificates import Office
from support.peers import Ports, free_port, node_settings, write_node

from dicom_node.cli import main
from dicom_node.errors import NodeError
from dicom_node.logs import configure_logging
from dicom_node.processes.parts import run_part
from dicom_node.settings import load_settings

CANARY = "KANARIENVOGEL"

COMMANDS = (
    ("check",),
    ("check", "--json"),
    ("status",),
    ("status", "--json"),
    ("jobs", "list"),
    ("jobs", "pause", "send"),
    ("echo", "web"),
    ("echo", "other"),
    ("rules", "check"),
    ("start",),
)


@pytest.fixture
def secrets(tmp_path: Path) -> dict[str, Any]:
    """A secret wherever one can stand, in a configuration that can be read."""
    good = Office(tmp_path / "office").good()
    private = serialization.load_pem_private_key(good.key.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(CANARY.encode())
    pkcs8 = serialization.PrivateFormat.PKCS8
    good.key.write_bytes(private.private_bytes(serialization.Encoding.PEM, pkcs8, encryption))
    address = f"http://127.0.0.1:{free_port()}"
    tls = {name: str(path) for name, path in good if path is not None}
    return {
        "tls": {**tls, "key_password": CANARY},
        "peers": [
            {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": free_port()},
            {"name": "web", "url": address, "token": CANARY},
            {"name": "other", "url": address, "username": "u", "password": CANARY},
        ],
        "destinations": ["pacs", "web"],
        "notify": {
            "email": {
                "host": "127.0.0.1",
                "port": free_port(),
                "sender": "a@b.example",
                "recipients": ["c@d.example"],
                "username": "u",
                "password": f"{CANARY}\N{SNOWMAN}",
            },
            "webhook": {"url": f"http://u:{CANARY}@127.0.0.1:1/{CANARY}", "token": CANARY},
        },
    }


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(config: Path, *words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["dicom-node", *words, "-c", str(config)])
        with pytest.raises(SystemExit):
            main()
        captured = capfd.readouterr()
        return captured.out + captured.err

    return run


WITHOUT_DATABASE = f"postgresql://u:{CANARY}@127.0.0.1:{free_port()}/d"
"""Nothing listens there."""

DATABASES = {
    "sqlite": None,
    "away": WITHOUT_DATABASE,
    "wrong backend": f"mysql://u:{CANARY}@h/d",
    "no address": f"postgresql//u:{CANARY}@h/d",
    "odd password": f"postgresql://u:x@{CANARY}:1@127.0.0.1/d",
    "odd driver": f"postgresql+{CANARY}://u:{CANARY}@127.0.0.1:1/d",
    "odd option": f"postgresql://u:{CANARY}@127.0.0.1:1/d?password={CANARY}&sslmode=disable",
}


@pytest.mark.parametrize("database", sorted(DATABASES))
def test_no_command_says_a_secret(
    tmp_path: Path, secrets: dict[str, Any], said: Callable[..., str], database: str
) -> None:
    if (url := DATABASES[database]) is not None:
        secrets["database"] = url
    ports = Ports()
    config = write_node(tmp_path / "node", node_settings(ports, **secrets))
    for words in COMMANDS:
        if words == ("start",) and database == "sqlite":
            continue  # it would run; its parts do below
        told = said(config, *words)
        assert told
        assert CANARY not in told, words


@pytest.mark.parametrize("database", ["sqlite", "away"])
def test_no_part_writes_a_secret(
    tmp_path: Path,
    secrets: dict[str, Any],
    capfd: pytest.CaptureFixture[str],
    database: str,
) -> None:
    if (url := DATABASES[database]) is not None:
        secrets["database"] = url
    web = {"host": "127.0.0.1", "port": free_port()}
    config = write_node(tmp_path / "node", node_settings(Ports(), web=web, **secrets))
    settings = load_settings(config)
    configure_logging(settings.logging, process="test")
    for part in ("receive", "deliver", "serve"):
        with contextlib.suppress(NodeError):
            run_part(part, settings, should_stop=lambda: True)
    captured = capfd.readouterr()
    assert captured.out + captured.err
    assert CANARY not in captured.out + captured.err
    files = [path for path in (tmp_path / "node").rglob("*") if path.is_file() and path != config]
    assert not any(CANARY.encode() in path.read_bytes() for path in files)
