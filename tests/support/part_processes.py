"""The parts of the node as processes, which can be killed at random and restart at once.

They run as operators run them: ``dicom-node receive``, ``work``, ``deliver``, ``serve``.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from dicom_node.ledger.engine import Ledger
from support.peers import Process, environment, wait_until
from support.scanner import under_way

PARTS = ("receive", "work", "deliver", "serve")

START_SECONDS = 300.0
"""For a part to start, on a machine with other things to do."""

MAX_OWN_ENDS = 5
"""A part that ends by itself so often will never run."""

KILL_AT_WORK_SHARE = 0.8
"""So often the victim has started up when it is killed."""

RELOAD_SHARE = 0.1
"""So often a part is told to read its rules again instead."""

MAX_LIFE_SECONDS = 0.6
"""How long the next victim is left alone, at most."""


@dataclass
class Part:
    """One part of the node as a process; started again at once after it was killed."""

    command: str
    config: Path
    log: Path
    popen: subprocess.Popen[bytes] | None = None
    died_alone: list[int] = field(default_factory=list)
    more: Mapping[str, str] = field(default_factory=dict)

    def arguments(self) -> list[str]:
        return [sys.executable, "-m", "dicom_node.cli", self.command, "-c", str(self.config)]

    def start(self) -> None:
        with self.log.open("ab") as sink:
            self.popen = subprocess.Popen(
                self.arguments(),
                env={**environment(), **self.more},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    def has_died(self) -> bool:
        return self.popen is not None and self.popen.poll() is not None

    def ask(self, number: signal.Signals) -> None:
        """Send its process a signal."""
        assert self.popen is not None
        self.popen.send_signal(number)

    def stop(self) -> None:
        """Ask it to end, and wait."""
        assert self.popen is not None
        Process(self.popen, self.log).stop()

    def processes(self) -> list[int]:
        """Its process and what that has started, oldest first."""
        if self.popen is None or self.has_died():
            return []
        return [self.popen.pid, *descendants(self.popen.pid)]

    def look_after(self) -> None:
        """Start it again if it has ended; nobody asked it to."""
        if self.popen is not None and self.has_died():
            self.died_alone.append(self.popen.returncode)
            if len(self.died_alone) > MAX_OWN_ENDS:
                pytest.fail(f"`{self.command}` cannot run:\n{self.log.read_text()[-2000:]}")
            self.start()

    def kill(self, rng: random.Random) -> None:
        """SIGKILL to its process or one of that process's own; then a new start."""
        assert self.popen is not None
        victim = rng.choice(self.processes() or [self.popen.pid])
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        if victim == self.popen.pid:
            self.popen.wait()
            self.start()

    def in_work(self) -> bool:
        """Whether it has started up: the ledger is open."""
        return any(_holds_ledger(pid) for pid in self.processes())


def descendants(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def _holds_ledger(pid: int) -> bool:
    with contextlib.suppress(OSError):
        links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
        return any(link.endswith(".db") or link.startswith("socket:") for link in links)
    return False


@contextlib.contextmanager
def parts(
    config: Path, commands: Sequence[str] = PARTS, more: Mapping[str, str] | None = None
) -> Iterator[list[Part]]:
    """The node's parts, each a process of its own; told to end at the end, and none is left.

    Args:
        config: The node's.
        commands: Its parts.
        more: Further environment variables.
    """
    made = [
        Part(command, config, config.parent / f"{command}-{number}.log", more=more or {})
        for number, command in enumerate(commands)
    ]
    for part in made:
        part.start()
    try:
        yield made
    finally:
        everything = [pid for part in made for pid in part.processes()]
        for part in made:
            part.ask(signal.SIGCONT)  # one that a failed test has stopped could not end
            part.ask(signal.SIGTERM)
        for part in made:
            part.stop()
        for pid in everything:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def kill_at_random(made: Sequence[Part], rng: random.Random, kills: int) -> Counter[str]:
    """Kill parts at random moments: most in the middle of their work, some while they start."""
    killed: Counter[str] = Counter()
    while killed.total() < kills:
        victim = rng.choice(made)
        if rng.random() < KILL_AT_WORK_SHARE:
            what = f"{victim.command} is at work"
            wait_until(what, partial(at_work, made, victim), START_SECONDS)
        time.sleep(rng.uniform(0.0, MAX_LIFE_SECONDS))  # chance decides the moment
        if victim.in_work() and rng.random() < RELOAD_SHARE:
            victim.ask(signal.SIGHUP)  # which must not end it
            continue
        victim.kill(rng)
        killed[victim.command] += 1
    return killed


def at_work(made: Sequence[Part], victim: Part) -> bool:
    """Whether a part has opened the ledger; those that ended by themselves are started again."""
    for part in made:
        part.look_after()
    return victim.in_work()


def swept(made: Sequence[Part], storage: Path) -> bool:
    """Whether nothing half-written is left; parts that ended by themselves are started again."""
    for part in made:
        part.look_after()
    return not any(storage.rglob("*.part"))


def drained(made: Sequence[Part], ledger: Ledger) -> bool:
    """Whether nothing is under way any more; parts that ended by themselves are started again."""
    for part in made:
        part.look_after()
    return under_way(ledger) == 0


def random_seed() -> int:
    """From TORTURE_SEED, else random; it is printed so that a failure can be reproduced."""
    return int(os.environ.get("TORTURE_SEED") or random.SystemRandom().randrange(10**6))
