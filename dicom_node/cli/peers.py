"""``echo`` and ``send``: connectivity of a peer, and files sent to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from pydicom.misc import is_dicom

from dicom_node.cli.configuration import ConfigPath, read_settings
from dicom_node.cli.output import AsJson, printable, progress, write_json
from dicom_node.cli.paths import check_given
from dicom_node.ct.files import with_preamble
from dicom_node.ct.folder import files_below
from dicom_node.dimse.peer import describe
from dicom_node.encoding.preamble import lacks_preamble
from dicom_node.errors import InputError
from dicom_node.sending.outcome import SendResult
from dicom_node.sending.routes import PeerTransport
from dicom_node.settings import PeerSettings, WebPeerSettings

PeerName = Annotated[str, typer.Argument(metavar="PEER", help="Name of the peer in node.yaml.")]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(echo)
    app.command()(send)


def echo(name: PeerName, config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Test the connection to a peer (C-ECHO, or a DICOMweb search)."""
    settings = read_settings(config)
    peer = settings.peer(name)
    seconds = PeerTransport(settings).echo(peer)
    if as_json:
        write_json({"peer": name, "answered": True, "seconds": round(seconds, 3)})
    else:
        typer.echo(f"{_who(peer)} answered in {1000 * seconds:.0f} ms.")


def send(
    name: PeerName,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Files and folders of DICOM files.")
    ],
    config: ConfigPath = None,
    as_json: AsJson = False,
) -> None:
    """Send DICOM files to a peer (C-STORE, or STOW-RS to a DICOMweb server)."""
    check_given(paths)
    settings = read_settings(config)
    peer = settings.peer(name)
    found, skipped = _dicom_files(paths)
    results: list[SendResult] = []
    with (
        _with_preambles(found) as files,
        progress(f"sending to {name}") as on_progress,
        PeerTransport(settings).open(peer, files) as session,
    ):
        for result in session.send():
            results.append(result)
            on_progress(len(results), len(files))
    _report(peer, results, skipped, as_json=as_json)
    if not all(result.ok for result in results):
        raise typer.Exit(1)


def _report(
    peer: PeerSettings | WebPeerSettings, results: list[SendResult], skipped: int, *, as_json: bool
) -> None:
    if as_json:
        write_json(_as_json(peer.name, results, skipped))
        return
    stored = sum(result.ok for result in results)
    typer.echo(f"{_who(peer)} stored {stored} of {len(results)} files.")
    if skipped:
        typer.echo(f"{skipped} files were skipped, since they are not DICOM files.")
    for result in results:
        if not result.ok:
            typer.echo(printable(f"  {result.path.name}: {result.sentence}"), err=True)


def _who(peer: PeerSettings | WebPeerSettings) -> str:
    return describe(peer) if isinstance(peer, PeerSettings) else f"{peer.name} ({peer.url})"


def _dicom_files(paths: list[Path]) -> tuple[list[Path], int]:
    """The DICOM files among the paths and below them, and the number of other files.

    Hidden files below a folder are left out: a command that was killed leaves such files behind.
    """
    found: list[Path] = []
    for path in paths:
        found += files_below(path) if path.is_dir() else [path]
    files = [path for path in found if is_dicom(path) or lacks_preamble(path)]
    if not files:
        raise InputError(f"There is no DICOM file in {', '.join(map(str, paths))}.")
    return files, len(found) - len(files)


@contextmanager
def _with_preambles(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """The files; one without preamble (PS3.10, section 7.1) is replaced by a copy that has it."""
    with TemporaryDirectory(prefix="dicom-node-") as folder:
        files = []
        for number, path in enumerate(paths):
            if lacks_preamble(path):
                whole = Path(folder) / str(number) / path.name
                whole.parent.mkdir()
                whole.write_bytes(with_preamble(path))
                files.append(whole)
            else:
                files.append(path)
        yield files


def _as_json(peer: str, results: list[SendResult], skipped: int) -> dict[str, object]:
    return {
        "peer": peer,
        "stored": sum(result.ok for result in results),
        "failed": sum(not result.ok for result in results),
        "skipped": skipped,
        "files": [
            {"file": result.path.name, "status": result.status, "outcome": result.sentence}
            for result in results
        ],
    }
