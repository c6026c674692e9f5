"""Who the patient is stays in DICOM files: a canary's series goes through the real node.

The canary must come out in the derived images (else the test could not fail) and in nothing else:
logs in both formats, run reports, the ledger, file names, what the commands say, the web pages,
metrics, audit messages and notifications.
"""

from __future__ import annotations

import contextlib
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from pydicom import Dataset, dcmread
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import CTImageStorage, Verification
from support.audit_schema import faults
from support.collectors import Collected, udp_collector, web_collector
from support.ct_factory import make_series
from support.peers import Ports, node, node_settings, run_command, wait_until, write_node

from dicom_node.ledger.engine import Ledger, open_ledger
from dicom_node.ledger.operations import status
from dicom_node.ledger.states import JobState, SeriesState
from dicom_node.sending.calls import send_files
from dicom_node.settings import PeerSettings

CANARY = "KANARIENVOGEL"
SLICES = 4
HOW: tuple[tuple[str, ...], ...] = ((), ("--json",))
SETTLED_SECONDS = 240.0


class GossipingPacs:
    """A PACS that refuses the first image, naming the patient in its error comment."""

    def __init__(self, port: int) -> None:
        self.received: list[Dataset] = []
        self._refused = False
        self._port = port

    @contextlib.contextmanager
    def listening(self) -> Iterator[GossipingPacs]:
        entity = AE(ae_title="LOOPPACS")
        entity.add_supported_context(CTImageStorage)
        entity.add_supported_context(Verification)
        address, handlers = ("127.0.0.1", self._port), [(evt.EVT_C_STORE, self._on_store)]
        entity.start_server(address, block=False, evt_handlers=handlers)
        try:
            yield self
        finally:
            entity.shutdown()

    def _on_store(self, event: Event) -> int | Dataset:
        if not self._refused:
            self._refused = True
            answer = Dataset()
            answer.Status = 0xA700
            answer.ErrorComment = f"no room for {event.dataset.PatientID}"
            return answer
        self.received.append(event.dataset)
        return 0x0000


def name_the_canary(dataset: Dataset) -> None:
    dataset.PatientBirthDate = CANARY[:8]
    dataset.AccessionNumber = f"{CANARY}-1"
    dataset.ReferringPhysicianName = f"{CANARY}^DOCTOR"
    dataset.InstitutionName = f"{CANARY} clinic"
    dataset.OperatorsName = f"{CANARY}^OPERATOR"
    dataset.PatientComments = f"{CANARY} sings"


def as_localizer(dataset: Dataset) -> None:
    name_the_canary(dataset)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def without_all_pixels(dataset: Dataset) -> None:
    name_the_canary(dataset)
    dataset.PixelData = dataset.PixelData[:100]


def canary_series(folder: Path) -> list[Path]:
    """Four series: one that works, a localizer, one with a gap, one whose pixels are cut short."""
    identity = {"patient_name": f"{CANARY}^GELB", "patient_id": f"{CANARY}-4711"}
    good = make_series(folder / "1", SLICES, change=name_the_canary, **identity)
    skipped = make_series(folder / "2", series_number=2, change=as_localizer, **identity)
    gap = make_series(folder / "3", series_number=3, change=name_the_canary, slices=6, **identity)
    cut = make_series(folder / "4", series_number=4, change=without_all_pixels, **identity)
    gap.pop(3).unlink()
    return [*good, *skipped, *gap, *cut]


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom quotes the wrong date of birth
@pytest.mark.parametrize("log_format", ["console", "json"])
def test_the_canary_is_in_dicom_files_only(tmp_path: Path, log_format: str) -> None:
    ports, home = Ports(), tmp_path / "node"
    files = canary_series(tmp_path / "scanner")
    with (
        GossipingPacs(ports.pacs).listening() as pacs,
        web_collector() as hook,
        udp_collector() as syslog,
    ):
        config = write_node(
            home,
            node_settings(
                ports,
                logging={"format": log_format, "level": "debug"},
                completion={"gap_after_seconds": 2},
                web={"port": ports.rest},
                audit={
                    "file": "audit.log",
                    "syslog": {"host": "127.0.0.1", "port": syslog.port},
                },
                notify={"webhook": {"url": f"http://127.0.0.1:{hook.port}/hook"}},
            ),
        )
        shown = shown_by_the_node(config, ports, files, hook)
        delivered = [str(dataset.PatientID) for dataset in pacs.received]
        said = everything_said(config, tmp_path) if log_format == "json" else ""
    assert delivered == [f"{CANARY}-4711"] * SLICES
    texts = {
        "notification": "\n".join(map(bytes.decode, hook.items)),
        "syslog": "\n".join(map(bytes.decode, syslog.items)),
        "what commands say": said,
        **shown,
        **texts_below(home),
    }
    assert leaks(texts) == []
    assert {"110100", "110102", "110104"} <= audited(texts["audit.log"])
    assert {"110100", "110102", "110104"} <= audited(texts["syslog"])
    assert "jobs_failed" in texts["notification"]


def shown_by_the_node(
    config: Path, ports: Ports, files: list[Path], hook: Collected
) -> dict[str, str]:
    """Send the series to a node, and what it shows once each is settled."""
    home = config.parent
    peer = PeerSettings(name="node", ae_title="DENOISE", host="127.0.0.1", port=ports.node)
    with node(config, ports.node):
        assert all(sent.ok for sent in send_files(peer, files, calling_ae="SCANNER"))
        with contextlib.closing(open_ledger(f"sqlite:///{home}/var/ledger.db")) as ledger:
            wait_until("every series is settled", lambda: settled(ledger), SETTLED_SECONDS)
        wait_until("the failed jobs are told", lambda: hook.items)
        wait_until("every part of the node runs", lambda: page(ports.rest, "/livez"))
        return {path: page(ports.rest, path) for path in ("/", "/metrics", "/api/status")}


def page(port: int, path: str) -> str:
    """What the status server answers; empty when it is not 200."""
    with (
        contextlib.suppress(urllib.error.URLError),
        urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer,
    ):
        return str(answer.read().decode())
    return ""


def audited(text: str) -> set[str]:
    """The events of audit messages that follow the schema."""
    messages = [line[line.index("<AuditMessage") :] for line in text.splitlines()]
    assert [fault for message in messages for fault in faults(message)] == []
    codes = [ET.fromstring(message).find("EventIdentification/EventID") for message in messages]
    return {code.attrib["csd-code"] for code in codes if code is not None}


def settled(ledger: Ledger) -> bool:
    """One series is delivered and three are refused, each with a reason."""
    counts = status(ledger)
    refused = counts.series.get(SeriesState.SKIPPED, 0) + counts.jobs.get(JobState.FAILED, 0)
    return bool(counts.jobs.get(JobState.DONE, 0) == 1 and refused == 3)


def everything_said(config: Path, folder: Path) -> str:
    """What an operator sees who looks at everything and denoises the same series offline."""
    scanner, out = folder / "scanner", folder / "out"
    commands: list[tuple[str | Path, ...]] = [
        ("check",), ("check", "--json"), ("status",), ("status", "--json"),
        ("jobs", "list"), ("jobs", "list", "--json"), ("jobs", "show", "1"),
        ("jobs", "show", "1", "--json"), ("echo", "pacs"),
        ("send", "pacs", scanner / "2", "--json"),
    ]  # fmt: skip
    done = [run_command(*command, "-c", config, cwd=folder) for command in commands]
    done += [run_command("denoise", scanner, out, "--model", "identity", *how) for how in HOW]
    return "\n".join(result.stdout + result.stderr for result in done)


def texts_below(folder: Path) -> dict[str, str]:
    """Every file's name, and its content unless it is DICOM; the ledger as SQL."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    contents = {
        str(path.relative_to(folder)): path.read_bytes().decode("latin-1")
        for path in files
        if path.read_bytes()[128:132] != b"DICM"
    }
    with contextlib.closing(sqlite3.connect(folder / "var" / "ledger.db")) as ledger:
        dump = "\n".join(ledger.iterdump())
    assert "INSERT INTO" in dump
    return {"file names": "\n".join(map(str, files)), "ledger": dump, **contents}


def leaks(texts: dict[str, str]) -> list[str]:
    return [
        f"{name}: {line.strip()[:200]}"
        for name, text in texts.items()
        for line in text.splitlines()
        if CANARY.lower() in line.lower()
    ]


def test_the_canary_is_found_where_it_may_be(tmp_path: Path) -> None:
    path = canary_series(tmp_path)[0]
    assert CANARY in str(dcmread(path).PatientName)
    assert leaks({"a log": f"name={CANARY.title()}"}) != []
