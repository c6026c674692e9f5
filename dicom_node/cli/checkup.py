"""``check``: everything the node needs, tried once, a verdict each."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import typer

from dicom_node.cli.configuration import ConfigPath, read_settings
from dicom_node.cli.offline import load_model
from dicom_node.cli.output import AsJson, write_json, write_table
from dicom_node.errors import NodeError, StorageError
from dicom_node.ledger.engine import open_ledger
from dicom_node.net.sender import echo
from dicom_node.settings import PeerSettings, Settings

GIB = 1024**3
OK, FAILED = "ok", "failed"


@dataclass(frozen=True)
class Verdict:
    """What was tried and how it went."""

    what: str
    verdict: str
    detail: str


@dataclass(frozen=True)
class _ThisNode:
    """The node itself as a peer, to see whether it runs."""

    name: str
    ae_title: str
    host: str
    port: int


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(check)


def check(config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Check configuration, database, disk, model, device, port and peers."""
    settings = read_settings(config)
    verdicts = [Verdict("configuration", OK, str(config or "node.yaml and environment"))]
    for what, attempt in _attempts(settings):
        try:
            verdicts.append(Verdict(what, OK, attempt()))
        except NodeError as error:
            verdicts.append(Verdict(what, FAILED, str(error)))
    if as_json:
        write_json([asdict(verdict) for verdict in verdicts])
    else:
        write_table(
            ("what", "verdict", "detail"),
            [(item.what, item.verdict, item.detail) for item in verdicts],
        )
    if any(item.verdict == FAILED for item in verdicts):
        raise typer.Exit(1)


def _attempts(settings: Settings) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "database", lambda: _database(settings)
    yield "disk", lambda: _disk(settings)
    yield "model", lambda: _model(settings)
    yield "port", lambda: _port(settings)
    for peer in settings.peers:
        if isinstance(peer, PeerSettings):
            yield f"peer {peer.name}", lambda peer=peer: _peer(peer, settings)  # type: ignore[misc]


def _database(settings: Settings) -> str:
    open_ledger(settings.database).close()
    return "opened, tables up to date"


def _disk(settings: Settings) -> str:
    storage, retention = settings.storage, settings.retention
    try:
        storage.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=storage) as file:
            file.write(b"written by check")
        usage = shutil.disk_usage(storage)
    except OSError as error:
        raise StorageError(f"{storage} cannot be written: {error.strerror}.") from error
    free_gib, used = usage.free / GIB, 1 - usage.free / usage.total
    if free_gib < retention.disk_reserve_gib:
        raise StorageError(
            f"{free_gib:.1f} GiB are free under {storage}, less than the reserve of"
            f" {retention.disk_reserve_gib:g} GiB: the receiver takes nothing."
        )
    if used > retention.disk_high_watermark:
        raise StorageError(
            f"{storage} is {used:.0%} full, above the watermark of"
            f" {retention.disk_high_watermark:.0%}: make room."
        )
    return f"{free_gib:.1f} GiB free under {storage}"


def _port(settings: Settings) -> str:
    listen = settings.listen
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listen.host, listen.port))
        except OSError:
            return _who_listens(settings)
    return f"{listen.host}:{listen.port} is free; the node does not run"


def _who_listens(settings: Settings) -> str:
    host = "127.0.0.1" if settings.listen.host == "0.0.0.0" else settings.listen.host
    here = _ThisNode("this node", settings.ae_title, host, settings.listen.port)
    calling = settings.accept.calling[0] if settings.accept.calling else settings.ae_title
    seconds = echo(here, calling_ae=calling)
    return f"the node runs and answered in {1000 * seconds:.0f} ms"


def _peer(peer: PeerSettings, settings: Settings) -> str:
    seconds = echo(peer, calling_ae=settings.ae_title)
    return f"{peer.ae_title} at {peer.host}:{peer.port} answered in {1000 * seconds:.0f} ms"


def _model(settings: Settings) -> str:
    denoiser = load_model(settings.model)
    return (
        f"{denoiser.info.name} {denoiser.info.version}, {denoiser.steps} steps, weights unchanged,"
        f" on {denoiser.device}"
    )
