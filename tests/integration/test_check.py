"""``check`` finds each trouble before users do: every verdict from a real trouble."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import (
    CTImageStorage,
    MRImageStorage,
    StorageCommitmentPushModel,
    Verification,
)
from support.ledger_factory import NodeFixture
from support.peers import Ports, free_port, node, node_settings, write_node
from support.told_model import write_told_model

from dicom_node.checkup import ports
from dicom_node.cli import main
from dicom_node.ledger.engine import open_ledger
from dicom_node.ledger.pauses import pause
from dicom_node.settings import load_settings

pytestmark = pytest.mark.filterwarnings("ignore")  # pynetdicom leaves closing sockets to Python

DAY = 86_400.0
Check = Callable[..., dict[str, tuple[str, str]]]


@pytest.fixture
def check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Check:
    """Runs ``check`` on a configuration with changes: what was tried, verdict and detail."""

    def run(*words: str, **changes: Any) -> dict[str, tuple[str, str]]:
        config = write_node(tmp_path / "node", node_settings(Ports(), **changes))
        monkeypatch.setattr(
            sys, "argv", ["dicom-node", "check", "-c", str(config), "--json", *words]
        )
        with pytest.raises(SystemExit) as end:
            main()
        told = json.loads(capsys.readouterr().out)
        failed = any(item["verdict"] == "failed" for item in told)
        assert bool(end.value.code) is failed
        return {item["what"]: (item["verdict"], item["detail"]) for item in told}

    return run


@contextmanager
def pacs(*classes: str) -> Iterator[dict[str, Any]]:
    """A peer that takes these SOP classes; its entry in ``peers``."""
    entity = AE("LOOPPACS")
    for one in (Verification, *classes):
        entity.add_supported_context(one)
    server = entity.start_server(("127.0.0.1", 0), block=False)
    port = server.server_address[1]
    yield {"name": "pacs", "ae_title": "LOOPPACS", "host": "127.0.0.1", "port": port}
    server.shutdown()


@contextmanager
def holder(answer: bytes = b"") -> Iterator[int]:
    """Some other program on a port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_peer_that_takes_ct_is_fine(check: Check) -> None:
    with pacs(CTImageStorage) as peer:
        verdict, detail = check(peers=[peer])["peer pacs"]
    assert verdict == "ok"
    assert "accepts CT" in detail


def test_a_peer_that_takes_no_ct_is_found(check: Check) -> None:
    with pacs(MRImageStorage) as peer:
        verdict, detail = check(peers=[peer])["peer pacs"]
    assert verdict == "failed"
    assert "CT Image Storage" in detail


@pytest.mark.parametrize("commits", [True, False])
def test_a_peer_that_should_commit_is_asked_whether_it_does(check: Check, commits: bool) -> None:
    classes = [CTImageStorage, *([StorageCommitmentPushModel] if commits else [])]
    with pacs(*classes) as peer:
        verdict, detail = check(peers=[{**peer, "storage_commitment": True}])["peer pacs"]
    assert verdict == ("ok" if commits else "failed")
    assert ("and storage commitment" if commits else "does not offer storage commitment") in detail


def test_a_peer_that_is_no_destination_need_not_take_anything(check: Check) -> None:
    with pacs(CTImageStorage) as peer, pacs() as other:
        verdicts = check(peers=[peer, {**other, "name": "other"}])
    assert verdicts["peer other"][0] == "ok"


def test_a_peer_that_is_away_is_found(check: Check) -> None:
    assert check()["peer pacs"][0] == "failed"


def test_a_web_peer_is_asked_whether_it_answers(check: Check) -> None:
    with holder(b"[]") as port:
        web = {"name": "pacs", "url": f"http://127.0.0.1:{port}/dicom-web"}
        there = check(peers=[web])["peer pacs"]
    assert there[0] == "ok"
    assert "`check --store pacs` stores a test image" in there[1]
    assert check(peers=[web])["peer pacs"][0] == "failed"


def test_a_login_page_that_stores_nothing_is_named(check: Check) -> None:
    with holder(b"<html>please log in</html>") as port:
        web = {"name": "pacs", "url": f"http://127.0.0.1:{port}/dicom-web"}
        verdict, detail = check("--store", "pacs", peers=[web])["store at pacs"]
    assert verdict == "failed"
    assert f"that the archive itself answers at {web['url']}, not a login page" in detail
    assert "allow DENOISE" not in detail, "an archive on the web knows no AE title"


def test_another_program_on_the_port_is_found(check: Check) -> None:
    with holder() as port:
        verdict, detail = check(listen={"host": "127.0.0.1", "port": port})["port"]
    assert verdict == "failed"
    assert f"Port {port} is held" in detail


def test_a_node_of_another_title_on_the_port_is_found(check: Check) -> None:
    entity = AE("OTHER")
    entity.require_called_aet = True
    entity.add_supported_context(Verification)
    server = entity.start_server(("127.0.0.1", 0), block=False)
    port = server.server_address[1]
    verdict, detail = check(listen={"host": "127.0.0.1", "port": port})["port"]
    server.shutdown()
    assert verdict == "failed"
    assert "DENOISE" in detail


def test_another_program_on_the_web_port_is_found(check: Check) -> None:
    with holder(b"<html>") as port:
        verdict, detail = check(web={"host": "127.0.0.1", "port": port})["web port"]
    assert verdict == "failed"
    assert f"Port {port} is held by a program that is not this node" in detail


def test_a_program_on_the_web_port_that_never_ends_its_answer_is_found(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "ANSWER_SECONDS", 0.5)
    over = threading.Event()

    def drip() -> None:
        peer, _ = listener.accept()
        with peer, contextlib.suppress(OSError):
            peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while not over.wait(0.05):
                peer.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip)
        thread.start()
        port = listener.getsockname()[1]
        verdict, detail = check(web={"host": "127.0.0.1", "port": port})["web port"]
        over.set()
        thread.join()
    assert (verdict, "is held by a program" in detail) == ("failed", True)


def test_a_running_node_is_recognized_at_both_ports(tmp_path: Path, check: Check) -> None:
    ports, web_port = Ports(), free_port()
    web = {"host": "127.0.0.1", "port": web_port}
    config = write_node(tmp_path / "node", node_settings(ports, web=web))
    with node(config, ports.node, web_port):
        listen = {"host": "127.0.0.1", "port": ports.node}
        verdicts = check(web=web, listen=listen)
    assert verdicts["port"][0] == "ok"
    assert "The node is running" in verdicts["port"][1]
    assert "The node is running" in verdicts["web port"][1]


def test_mistakes_in_the_rules_are_found_with_their_line(tmp_path: Path, check: Check) -> None:
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "rules.yaml").write_text(
        "rules:\n  - name: one\n    denoise: {destinations: [nowhere]}\n"
    )
    verdict, detail = check()["rules"]
    assert verdict == "failed"
    assert "rules.yaml line 3" in detail


def test_damaged_weights_of_a_model_that_only_a_rule_names_are_found(
    tmp_path: Path, check: Check
) -> None:
    card = write_told_model(tmp_path / "site")
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "rules.yaml").write_text(f"rules:\n  - denoise: {{model: {card}}}\n")
    assert check()["models of rules"] == ("ok", f"{card}: weights unchanged.")
    with card.with_name("told.safetensors").open("ab") as weights:
        weights.write(b"x")
    verdicts = check()
    verdict, detail = verdicts["models of rules"]
    assert (verdicts["model"][0], verdict) == ("ok", "failed")
    assert f"{card}: " in detail
    assert "told.safetensors" in detail


def test_missing_certificates_are_found(tmp_path: Path, check: Check) -> None:
    missing = str(tmp_path / "missing.pem")
    verdicts = check(tls={"certificate": missing, "key": missing, "authorities": missing})
    assert verdicts["certificates"][0] == "failed"
    assert "missing.pem" in verdicts["certificates"][1]


def test_a_disk_under_its_reserve_fails_and_above_its_watermark_warns(check: Check) -> None:
    assert check(retention={"disk_reserve_gib": 1e6})["disk"][0] == "failed"
    tight = {"disk_reserve_gib": 0, "disk_high_watermark": 1e-9}
    assert check(retention=tight)["disk"][0] == "warning"


def test_failed_jobs_and_pauses_are_reported(tmp_path: Path, check: Check) -> None:
    shop = NodeFixture(tmp_path / "node")
    shop.job(now=time.time())
    shop.claim_job(time.time()).fail("broken")
    pause(shop.ledger, "send", reason="upgrade", now=time.time())
    verdict, detail = check()["queue"]
    assert verdict == "warning"
    assert "send is paused (upgrade)" in detail
    assert "1 job has failed" in detail


def test_a_refusal_by_one_of_two_destinations_is_reported(tmp_path: Path, check: Check) -> None:
    shop, now = NodeFixture(tmp_path / "node"), time.time()
    shop.job(destinations=("pacs", "archive"), now=now)
    shop.claim_job(now).derived(1)
    delivery = shop.claim_delivery("archive", now)
    delivery.fail("no CT here")
    verdict, detail = check()["queue"]
    assert verdict == "warning"
    assert "archive has refused results (open jobs: 1)" in detail


def test_a_clock_behind_the_ledger_and_an_old_backup_are_reported(
    tmp_path: Path, check: Check
) -> None:
    shop = NodeFixture(tmp_path / "node")
    shop.arrive(now=time.time() + DAY)
    backup = tmp_path / "node" / "var" / "ledger.db.0001.backup"
    backup.touch()
    os.utime(backup, (time.time() - 60 * DAY,) * 2)
    verdicts = check()
    assert verdicts["clock"][0] == "warning"
    assert verdicts["backups"][0] == "warning"
    assert str(backup) in verdicts["backups"][1]


def test_unresolvable_host_names_are_found_and_nothing_is_sent(check: Check) -> None:
    mail = {"host": "mail.invalid", "sender": "node@site", "recipients": ["team@site"]}
    with socket.create_server(("127.0.0.1", 0)) as collector:
        collector.settimeout(0.0)
        syslog = {"host": "127.0.0.1", "port": collector.getsockname()[1], "transport": "tls"}
        verdicts = check(notify={"email": mail}, audit={"syslog": syslog})
        with pytest.raises(BlockingIOError):
            collector.accept()
    assert verdicts["mail server"][0] == "failed"
    assert verdicts["audit syslog"][0] == "ok"


def test_check_leaves_no_open_ledger(check: Check, tmp_path: Path) -> None:
    check()
    settings = load_settings(tmp_path / "node" / "node.yaml")
    open_ledger(settings.database).close()
    assert not Path(f"{settings.database.removeprefix('sqlite:///')}-wal").exists()


def test_a_rule_that_uses_a_model_for_comparison_is_warned_about(
    check: Check, tmp_path: Path
) -> None:
    card = write_told_model(tmp_path / "site")
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "rules.yaml").write_text(f"rules:\n  - denoise: {{model: {card}}}\n")
    assert check()["models for comparison"] == ("ok", "None is used.")
    fields = json.loads(card.read_text("utf-8")) | {"for_comparison": True}
    card.write_text(json.dumps(fields), encoding="utf-8")
    verdict, detail = check()["models for comparison"]
    assert verdict == "warning"
    assert detail.startswith("told: for comparison")


def test_models_that_share_a_name_are_named_and_the_node_stays_fit(
    check: Check, tmp_path: Path
) -> None:
    assert check()["model names"][0] == "ok"
    card = write_told_model(tmp_path / "site")
    fields = json.loads(card.read_text("utf-8")) | {"name": "man"}
    card.write_text(json.dumps(fields), encoding="utf-8")
    verdicts = check(model={"name": str(card), "device": "cpu"})
    assert verdicts["model"][0] == "ok"
    verdict, detail = verdicts["model names"]
    assert verdict == "warning"
    assert "named 'man'" in detail
    assert "--name NAME" in detail
