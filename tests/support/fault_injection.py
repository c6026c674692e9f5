"""Fault injection: scanners send while the parts of a node are disturbed, and all must be well."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dicom_node.ledger.engine import Ledger, open_ledger
from dicom_node.settings import load_settings
from support.consistency import inconsistencies
from support.part_processes import Part, drained, parts, random_seed, swept
from support.peers import Ports, node_settings, orthanc, wait_until, write_node
from support.scanner import Scanner, scanning

DRAIN_SECONDS = 300.0
MODALITIES = ("CT1", "CT2", "CT3")
PATIENT = {"attempts": 100, "first_delay_seconds": 0.5, "longest_delay_seconds": 1}
"""Many kills would use up the usual attempts."""


@dataclass(frozen=True)
class Disturbance:
    """A disturbance while the scanners send.

    Attributes:
        act: Takes the parts, randomness and the ledger; counts what it has done, by name.
        environment: Further variables for the parts.
    """

    act: Callable[[Sequence[Part], random.Random, Ledger], Counter[str]]
    environment: Mapping[str, str] | None = None


def run_with_disturbance(
    folder: Path,
    commands: Sequence[str],
    disturbance: Disturbance,
    capsys: pytest.CaptureFixture[str],
    *,
    receivers: int = 1,
    **changes: Any,
) -> None:
    """Run a node with a disturbance; the outcome must be the same as without it."""
    seed, ports = random_seed(), Ports()
    settings = node_settings(ports, retry=PATIENT, **changes)
    settings["listen"]["processes"] = receivers
    config = write_node(folder / "node", settings)
    storage = config.parent / "var"
    ledger = open_ledger(load_settings(config).database)
    scanners = [
        Scanner(name, folder / "scans", ports.node, ledger, random.Random(f"{seed} {name}"))
        for name in MODALITIES
    ]
    with orthanc(folder / "pacs", ports) as pacs:
        with parts(config, commands, disturbance.environment) as made, scanning(scanners):
            done = disturbance.act(made, random.Random(seed), ledger)
            for scanner in scanners:
                scanner.stop_after_this()
            wait_until("all is sent", lambda: all_sent(scanners, made), DRAIN_SECONDS)
            wait_until("all is done", lambda: drained(made, ledger), DRAIN_SECONDS)
            for part in made:  # a start sweeps what the dead have left
                if part.command in ("receive", "serve"):
                    part.stop()
                    part.start()
            wait_until("leftovers are swept", lambda: swept(made, storage))
        with capsys.disabled():
            sys.stdout.write(summary(seed, done, scanners))
        scans = [scan for scanner in scanners for scan in scanner.scans]
        assert inconsistencies(scans, pacs, ledger, storage) == []
    ledger.close()
    assert {part.command: part.died_alone for part in made if part.died_alone} == {}
    for log in config.parent.glob("*.log"):
        assert "Traceback" not in log.read_text(), log


def all_sent(scanners: list[Scanner], made: Sequence[Part]) -> bool:
    for part in made:
        part.look_after()
    for scanner in scanners:
        if scanner.fault is not None:
            raise scanner.fault
    return not any(scanner.is_alive() for scanner in scanners)


def summary(seed: int, done: Counter[str], scanners: list[Scanner]) -> str:
    """The run in two lines."""
    scans = [scan for scanner in scanners for scan in scanner.scans]
    images = sum(len(scan.files) for scan in scans)
    manners = sum((scanner.manners for scanner in scanners), Counter[str]())
    return (
        f"\nTORTURE_SEED={seed}: {done.total()} disturbances {dict(done)};"
        f"\n{len(scans)} series of {images} images, sent {dict(manners)}\n"
    )
