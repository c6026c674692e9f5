"""A node with its ledger, its ports and the series sent to it, for the acceptance tests."""

from __future__ import annotations

import contextlib
import random
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dicom_node.ledger.engine import Ledger, open_ledger
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import list_jobs
from dicom_node.ledger.states import JobState
from dicom_node.settings import load_settings
from support.peers import (
    Ports,
    Process,
    free_port,
    listening,
    node,
    node_settings,
    require_program,
    running,
    wait_until,
    write_node,
)
from support.scanner import Scan, answered, make_scan, rows

LINE_SECONDS = 120.0


@dataclass
class NodeUnderTest:
    """What a test of the whole node has in hand."""

    folder: Path
    ports: Ports
    config: Path
    ledger: Ledger
    storage: Path
    scans: list[Scan] = field(default_factory=list)
    unsent: set[Path] = field(default_factory=set)

    @contextlib.contextmanager
    def node(self) -> Iterator[Process]:
        with node(self.config, self.ports.node) as process:
            yield process

    def scan(self, slices: int = 6) -> Scan:
        """A new series."""
        name = f"CT{len(self.scans) + 1}"
        self.scans.append(make_scan(self.folder / "scans", name, random.Random(name), slices))
        return self.scans[-1]

    def send(self, *files: Path) -> None:
        """The scanner sends until everything is answered with success."""
        self.unsent.update(files)
        wait_until("all images are answered with success", self.offered, LINE_SECONDS)

    def offered(self) -> bool:
        """Send once what has not been answered with success; whether all of it is now."""
        if self.unsent:
            self.unsent -= answered(sorted(self.unsent), self.ports.node, calling="CT1")
        return not self.unsent

    def rows(self, query: str, **values: object) -> list[tuple[Any, ...]]:
        return rows(self.ledger, query, **values)

    def one(self, query: str, **values: object) -> Any:
        """The one value that a query gives."""
        ((value,),) = self.rows(query, **values)
        return value

    def times_derived(self) -> int:
        """How often a result became durable, over all jobs."""
        return int(
            self.one("SELECT count(*) FROM history WHERE before='DENOISING' AND after='DERIVED'")
        )

    def times_denoising(self) -> int:
        """How often somebody began to denoise."""
        return int(self.one("SELECT count(*) FROM history WHERE after = 'DENOISING'"))

    def jobs(self) -> list[Job]:
        """Newest first."""
        return list_jobs(self.ledger)

    def all_done(self) -> bool:
        """Whether there are jobs and all of them are DONE, or overtaken by one with more images."""
        if self.arriving():  # asked first: a series gets its job when it stops arriving
            return False
        states = {job.state for job in self.jobs()}
        return JobState.DONE in states and states <= {JobState.DONE, JobState.CANCELLED}

    def arriving(self) -> int:
        """How many series await their decision."""
        return int(self.one("SELECT count(*) FROM series WHERE state IN ('ARRIVING', 'COMPLETE')"))


@dataclass(frozen=True)
class Archive:
    """DCMTK's storescp as one more destination; its files are named by their SOP Instance UID."""

    port: int
    folder: Path

    @contextlib.contextmanager
    def up(self) -> Iterator[Process]:
        self.folder.mkdir(exist_ok=True)
        command = [require_program("storescp"), "-od", str(self.folder), str(self.port)]
        with running(command, self.folder.with_suffix(".log"), cwd=self.folder) as process:
            wait_until("the archive listens", lambda: listening(self.port))
            yield process

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("CT*")) if self.folder.is_dir() else []

    def peer(self) -> dict[str, Any]:
        return {"name": "archive", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": self.port}


def archive(folder: Path) -> Archive:
    return Archive(free_port(), folder)


@contextlib.contextmanager
def node_under_test(
    folder: Path, *, more: Archive | None = None, **changes: Any
) -> Iterator[NodeUnderTest]:
    """A configured node that does not run yet.

    Args:
        folder: For all of its files.
        more: One more peer.
        changes: Go into its ``node.yaml``.
    """
    ports = Ports()
    settings = node_settings(ports, **changes)
    settings["peers"] += [more.peer()] if more is not None else []
    config = write_node(folder / "node", settings)
    read = load_settings(config)
    ledger = open_ledger(read.database)
    try:
        yield NodeUnderTest(folder, ports, config, ledger, read.storage)
    finally:
        ledger.close()


def send_once(files: Sequence[Path], port: int) -> subprocess.CompletedProcess[str]:
    """One try of DCMTK's storescu, which stops at the first refusal; its words tell the status."""
    command = [
        require_program("storescu"), "-v", "-xe", "-ta", "20", "-td", "20", "-aet", "CT1",
        "-aec", "DENOISE", "127.0.0.1", str(port), *map(str, files),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
