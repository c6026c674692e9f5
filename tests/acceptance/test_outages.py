"""What fails around the node: a PACS is away, the disk is full, the plug is pulled."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.consistency import inconsistencies
from support.node_under_test import LINE_SECONDS, NodeUnderTest, archive, node_under_test, send_once
from support.part_processes import descendants
from support.peers import Orthanc, Process, orthanc, require_program, storescu, wait_until

from dicom_node.ledger.states import JobState

FEW_ATTEMPTS = {"attempts": 3, "first_delay_seconds": 0.1, "longest_delay_seconds": 0.2}
MIB = 1 << 20


def test_a_pacs_that_is_away_for_many_tries_gets_everything_and_nothing_is_denoised_twice(
    tmp_path: Path,
) -> None:
    """A weekend: far more tries than ``retry.attempts``, and a restart in between."""
    with node_under_test(tmp_path, retry=FEW_ATTEMPTS) as line:
        first, second = line.scan(), line.scan()
        with line.node():
            line.send(*first.files)
            wait_until("it was tried often", lambda: tries(line) > 10, LINE_SECONDS)
        with line.node():
            line.send(*second.files)
            before = tries(line)
            wait_until("both are tried on", lambda: tries(line) > before + 10, LINE_SECONDS)
            with orthanc(tmp_path / "pacs", line.ports) as pacs:
                wait_until("all is delivered", line.all_done, LINE_SECONDS)
                assert line.times_derived() == line.times_denoising() == 2
                assert inconsistencies(line.scans, pacs, line.ledger, line.storage) == []


def tries(line: NodeUnderTest) -> int:
    """How often a delivery was tried."""
    sent = "SELECT count(*) FROM history WHERE destination <> '' AND after = 'SENDING'"
    return int(line.one(sent))


@pytest.mark.parametrize("trouble", ["away", "hanging"])
def test_one_destination_in_trouble_holds_up_no_other(tmp_path: Path, trouble: str) -> None:
    second = archive(tmp_path / "archive")
    with node_under_test(
        tmp_path, retry=FEW_ATTEMPTS, destinations=["archive", "pacs"], more=second
    ) as line:
        line.scan(), line.scan()
        with orthanc(tmp_path / "pacs", line.ports) as pacs, line.node():
            with silent(second.port) if trouble == "hanging" else contextlib.nullcontext():
                line.send(*line.scans[0].files, *line.scans[1].files)
                wait_until(
                    "the PACS has all", lambda: len(pacs.get("/instances")) == 12, LINE_SECONDS
                )
                assert second.files() == []
                assert not line.all_done()
            with second.up():
                wait_until("the archive has all too", line.all_done, LINE_SECONDS)
                assert len(second.files()) == 12
            assert line.times_denoising() == 2
            assert inconsistencies(line.scans, pacs, line.ledger, line.storage) == []


@contextlib.contextmanager
def silent(port: int) -> Iterator[None]:
    """A host that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", port), backlog=16):
        yield


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Write a file until so many bytes are left."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file, contextlib.suppress(OSError):
        while shutil.disk_usage(disk).free > leave:
            file.write(bytes(min(64 << 10, shutil.disk_usage(disk).free - leave)))
            file.flush()
    return ballast


def test_a_full_disk_refuses_loses_nothing_and_recovers(tmp_path: Path, disk: Path) -> None:
    """Not even the ledger can be written: inbox, outbox and database are on this disk."""
    database = f"sqlite:///{disk}/ledger.db"
    with node_under_test(
        tmp_path, retry=FEW_ATTEMPTS, storage=str(disk), database=database
    ) as line:
        first, second, third = line.scan(), line.scan(), line.scan()
        with orthanc(tmp_path / "pacs", line.ports) as pacs, line.node() as process:
            line.send(*first.files)
            ballast = fill(disk)
            refused = send_once(second.files, line.ports.node)
            assert "OutOfResources" in refused.stdout + refused.stderr
            assert echoes(line)
            assert len(line.rows("SELECT id FROM series")) == 1
            ballast.unlink()
            line.send(*second.files, *third.files)
            wait_until("everything is done", line.all_done, LINE_SECONDS)
            assert process.stop() == 0
            assert inconsistencies(line.scans, pacs, line.ledger, disk) == []


def test_under_the_reserve_associations_are_refused_for_a_while(tmp_path: Path, disk: Path) -> None:
    limits = {"disk_reserve_gib": 8 / 1024, "disk_high_watermark": 1.0}
    with node_under_test(tmp_path, storage=str(disk), retention=limits) as line:
        line.scan()
        with orthanc(tmp_path / "pacs", line.ports) as pacs, line.node():
            ballast = fill(disk, leave=4 * MIB)
            refused = send_once(line.scans[0].files, line.ports.node)
            assert "Rejected Transient" in refused.stdout + refused.stderr
            assert echoes(line)
            ballast.unlink()
            line.send(*line.scans[0].files)
            wait_until("everything is done", line.all_done, LINE_SECONDS)
            assert inconsistencies(line.scans, pacs, line.ledger, disk) == []


def echoes(line: NodeUnderTest) -> bool:
    """Whether the node answers a C-ECHO."""
    command = [require_program("echoscu"), "-aet", "CT1", "-aec", "DENOISE", "127.0.0.1"]
    done = subprocess.run([*command, str(line.ports.node)], capture_output=True, check=False)
    return done.returncode == 0


def test_the_plug_is_pulled_again_and_again_in_mid_series(tmp_path: Path) -> None:
    """kill -9 of the whole node, parts and all, at moments of its work."""
    moments = (
        ("images have come", "SELECT count(*) FROM instance"),
        ("a job is denoised", "SELECT count(*) FROM history WHERE after = 'DENOISING'"),
        ("a result is durable", "SELECT count(*) FROM history WHERE after = 'DERIVED'"),
    )
    with node_under_test(tmp_path) as line, orthanc(tmp_path / "pacs", line.ports) as pacs:
        for what, count in moments:
            seen, scan = line.one(count), line.scan(12)
            with line.node() as process:
                sender = threading.Thread(target=line.send, args=scan.files, daemon=True)
                sender.start()
                wait_until(what, lambda: line.one(count) > seen, LINE_SECONDS)  # noqa: B023
                pull_the_plug(process)
            with line.node():
                sender.join(LINE_SECONDS)
                wait_until("all is done", line.all_done, LINE_SECONDS)
        done = [job for job in line.jobs() if job.state is JobState.DONE]  # others are overtaken
        assert line.times_derived() == len(done)
        assert inconsistencies(line.scans, pacs, line.ledger, line.storage) == []


def pull_the_plug(process: Process) -> None:
    """As a power cut: every process of the node at once."""
    for pid in [process.popen.pid, *descendants(process.popen.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.popen.wait()


def test_the_rest_of_a_series_comes_when_the_first_half_is_long_done(tmp_path: Path) -> None:
    """Late slices are added to the derived series; what is at the PACS is not made again."""
    with node_under_test(tmp_path) as line, orthanc(tmp_path / "pacs", line.ports) as pacs:
        scan = line.scan(9)
        with line.node():
            line.send(*scan.files[:5])
            wait_until("the first half is done", line.all_done, LINE_SECONDS)
            early = {pacs.file(instance) for instance in pacs.get("/instances")}
            line.send(*scan.files[5:])
            wait_until("the rest is done", lambda: len(line.jobs()) == 2 and line.all_done())
            line.send(*scan.files)  # and a router sends all of it once more
            assert [job.derived_count for job in line.jobs()] == [4, 5]  # newest first
            assert early < {pacs.file(instance) for instance in pacs.get("/instances")}
            line.scan()
            line.send(*line.scans[1].files)  # completed later than anything before it
            wait_until("the next series is done", lambda: len(line.jobs()) > 2 and line.all_done())
            assert len(line.jobs()) == 3
        assert inconsistencies(line.scans, pacs, line.ledger, line.storage) == []


def test_what_the_pacs_could_not_send_while_the_node_was_down_is_taken_later(
    tmp_path: Path,
) -> None:
    """The PACS's own rule routes; its job fails while the node is down and is submitted again."""
    with node_under_test(tmp_path) as line, orthanc(tmp_path / "pacs", line.ports) as pacs:
        scan = line.scan()
        storescu(scan.files, line.ports.pacs, calling="CTSCAN", called="LOOPPACS")
        failed = wait_until("the PACS gave up", lambda: jobs_of(pacs, "Failure"), LINE_SECONDS)
        with line.node():
            pacs.post(f"/jobs/{failed[0]}/resubmit", {})
            wait_until("the series is done", line.all_done, LINE_SECONDS)
            wait_until("both are there", lambda: len(pacs.series()) == 2)
            assert {len(own) for own in pacs.series().values()} == {len(scan.files)}


def jobs_of(pacs: Orthanc, state: str) -> list[str]:
    return [job["ID"] for job in pacs.get("/jobs?expand") if job["State"] == state]
