"""A receiver process under attack, and its condition afterwards.

``HOSTILE_CASES`` says how many cases are thrown at it, ``HOSTILE_SEED`` which ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_node.sending.calls import echo
from dicom_node.settings import PeerSettings
from support.peers import Ports, Process, listening, node_settings, running, wait_until, write_node
from support.raw_dicom import Answers

TORTURE = os.environ.get("TORTURE") == "1"
CASES = int(os.environ.get("HOSTILE_CASES", "100000" if TORTURE else "600"))
SEED = int(os.environ.get("HOSTILE_SEED", "3"))

AT_ONCE = 4
GROWTH_MIB = 24.0
"""Of the second half of many cases: Python's heap breathes, a leak adds up."""

POOL_FILES = 3 * 4
"""The ledger keeps up to five connections, of three files each, one of them from the start; a leak
adds up over the cases."""

READINGS = 20
"""Of the memory, of which the least counts: an association holds some 30 MiB for a moment."""

SETTLE_SECONDS = 40.0
MANY = {"max_associations": 50, "max_associations_per_peer": 50}


@dataclass
class Target:
    """The receiver under attack.

    Attributes:
        expected: Refusals and broken associations that its log must contain in the end.
    """

    process: Process
    home: Path
    port: int
    expected: int = 0

    @property
    def kept(self) -> list[Path]:
        """What was answered with success: in the inbox, or in quarantine beside another version."""
        return sorted((self.home / "var").rglob("*.dcm"))

    def status(self, field: str) -> int:
        """A number of the kernel's about the process: ``Threads``, ``VmRSS`` (kB)."""
        text = Path(f"/proc/{self.process.popen.pid}/status").read_text()
        (found,) = [row.split()[1] for row in text.splitlines() if row.startswith(f"{field}:")]
        return int(found)

    def resting_kb(self) -> int:
        """Least resident memory over some readings, each after an association, kB."""
        readings = []
        for _ in range(READINGS):
            assert self.answers_echo()
            readings.append(self.status("VmRSS"))
        return min(readings)

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.popen.pid}/fd").iterdir()))

    def logged(self) -> int:
        """Number of refusals and broken associations in its log."""
        rows = [json.loads(row) for row in self.process.output.splitlines() if row[:1] == "{"]
        warnings = [row for row in rows if row["level"] == "warning"]
        return sum(row.get("repeated", 1) for row in warnings)

    def callers(self) -> set[str]:
        """The calling titles that its lines name."""
        return set(re.findall(r'"calling": "(\w+)"', self.process.output))

    def answers_echo(self) -> bool:
        peer = PeerSettings(name="node", ae_title="DENOISE", host="127.0.0.1", port=self.port)
        return echo(peer, calling_ae="HEALTH") > 0


@contextlib.contextmanager
def receiver_under_attack(home: Path, **listen: Any) -> Iterator[Target]:
    """A receiver that ends cleanly and has logged every incident that the test expects."""
    ports = Ports()
    where = {"host": "127.0.0.1", "port": ports.node, **(listen or MANY)}
    logging = {"format": "json", "level": "info"}
    config = write_node(home, node_settings(ports, listen=where, logging=logging))
    command = [sys.executable, "-m", "dicom_node.cli", "receive", "-c", config]
    with running(command, home / "receive.log", cwd=home) as process:
        wait_until("the receiver listens", lambda: listening(ports.node))
        target = Target(process, home, ports.node)
        yield target
        assert process.stop() == 0
        assert target.logged() >= target.expected


@contextlib.contextmanager
def staying_unharmed(target: Target) -> Iterator[None]:
    """The receiver is after the block as before: alive, in words, and with nothing left open."""
    pid = target.process.popen.pid
    assert target.answers_echo()
    threads, files = target.status("Threads"), target.open_files()
    yield
    assert target.process.popen.poll() is None, target.process.output[-4000:]
    assert target.process.popen.pid == pid
    assert target.answers_echo()
    wait_until("no thread is left", lambda: target.status("Threads") <= threads + 1, SETTLE_SECONDS)
    most = files + POOL_FILES
    wait_until("no file is left", lambda: target.open_files() <= most, SETTLE_SECONDS)
    assert "Traceback" not in target.process.output
    assert "Exception in thread" not in target.process.output


def in_parallel(cases: Sequence[int], attack: Callable[[int], Answers]) -> list[Answers]:
    """Each case answered; a case that hangs fails here with its number."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(attack, cases))
    hanging = [case for case, answer in zip(cases, answers, strict=True) if not answer.closed]
    assert hanging == [], f"seed {SEED}: the receiver did not hang up"
    return answers


def halves(count: int) -> tuple[range, range]:
    return range(count // 2), range(count // 2, count)


def check_flat(target: Target, before_kb: int, what: str) -> None:
    grown = (target.resting_kb() - before_kb) / 1024
    assert grown < GROWTH_MIB, f"{what}: {grown:.0f} MiB more, seed {SEED}"
