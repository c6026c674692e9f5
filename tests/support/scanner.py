"""Scanners and routers, which send again whatever is not answered with success."""

from __future__ import annotations

import contextlib
import random
import re
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from sqlalchemy import text

from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.operations import status
from dicom_node.ledger.states import JobState, SeriesState
from support.ct_factory import make_series, rewrite
from support.peers import require_program

OPEN_AT_MOST = 12
"""Scanners pause while so many series or jobs are under way: the day is bad, not endless."""

_HELD = re.compile(r"Sending file: (?P<file>.+)|Received Store Response \((?P<answer>\w+)")


@dataclass(frozen=True)
class Scan:
    """A series a scanner has made."""

    uid: str
    files: tuple[Path, ...]


def make_scan(
    folder: Path, name: str, rng: random.Random, slices: int | None = None, *, size: int = 48
) -> Scan:
    """A small series of a patient of its own; the noise of each of its slices is its own too."""
    files = make_series(
        folder / name,
        slices or rng.randint(5, 11),
        size,
        study=name,
        description=name,
        patient_id=f"ID-{name}",
        seed=rng.getrandbits(32),
    )
    return Scan(str(dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID), tuple(files))


def answered(files: Sequence[Path], port: int, *, calling: str) -> set[Path]:
    """Send files with DCMTK; those that were answered with success (0x0000)."""
    command = [
        require_program("storescu"), "-v", "-nh", "-xe", "-ta", "20", "-td", "20", "-aet", calling,
        "-aec", "DENOISE", "127.0.0.1", str(port), *map(str, files),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    held, current = set(), Path()
    for match in _HELD.finditer(done.stdout + done.stderr):
        if match["file"]:
            current = Path(match["file"].strip())
        elif match["answer"] == "Success":
            held.add(current)
    return held


class Scanner(threading.Thread):
    """A modality, or a router behind one: sends series until told to stop, and everything again
    that was not answered with success.

    Args:
        name: Its AE title.
        folder: For its files.
        port: Of the node.
        ledger: Of the node, only to see whether a first half has been taken for the whole.
        rng: Chance.
        most: It makes no more series than this.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        port: int,
        ledger: Ledger,
        rng: random.Random,
        *,
        most: int = 10_000,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.scans: list[Scan] = []
        self.manners: Counter[str] = Counter()
        self.fault: BaseException | None = None
        self._folder, self._port, self._ledger, self._rng = folder, port, ledger, rng
        self._most = most
        self._last = threading.Event()
        self._given_up = threading.Event()

    def stop_after_this(self) -> None:
        """Make no further series; the one under way is sent to its end."""
        self._last.set()

    def give_up(self) -> None:
        """Stop sending, for the end of a test that has failed."""
        self._last.set()
        self._given_up.set()

    def run(self) -> None:
        try:
            while not self._last.is_set() and len(self.scans) < self._most:
                if under_way(self._ledger) >= OPEN_AT_MOST:
                    self._last.wait(0.2)
                    continue
                self._next_series()
        except BaseException as fault:
            self.fault = fault

    def _next_series(self) -> None:
        name = f"{self.name}-{len(self.scans) + 1}"
        scan = make_scan(self._folder, name, self._rng)
        self.scans.append(scan)
        manners = (self._whole, self._shuffled, self._halves, self._router, self._impostor)
        manner = self._rng.choice(manners)
        self.manners[manner.__name__.strip("_")] += 1
        manner(scan)

    def _whole(self, scan: Scan) -> None:
        self._send(scan.files)

    def _shuffled(self, scan: Scan) -> None:
        self._send(self._rng.sample(scan.files, len(scan.files)))

    def _halves(self, scan: Scan) -> None:
        """The second half comes when the node has taken the first for the whole series."""
        half = self._rng.randint(2, len(scan.files) - 2)
        self._send(scan.files[:half])
        while not (self._given_up.is_set() or taken_for_whole(self._ledger, scan.uid)):
            self._given_up.wait(0.1)
        self._send(scan.files[half:])

    def _router(self, scan: Scan) -> None:
        """Everything twice over two associations at once, and once more at the end."""
        other = threading.Thread(target=self._send, args=(scan.files,), daemon=True)
        other.start()
        self._send(scan.files)
        other.join()
        self._send(scan.files)

    def _impostor(self, scan: Scan) -> None:
        """Other pixels come under the UID of an image that has been kept: the first one counts."""
        self._send(scan.files)
        other = dcmread(self._rng.choice(scan.files))
        other.PixelData = bytes(len(other.PixelData))
        path = scan.files[0].with_suffix(".impostor")
        answered([rewrite(other, path)], self._port, calling=self.name)

    def _send(self, files: Sequence[Path]) -> None:
        missing = list(files)
        while missing and not self._given_up.is_set():
            held = answered(missing, self._port, calling=self.name)
            missing = [path for path in missing if path not in held]
            if missing:
                self._given_up.wait(0.2)


@contextlib.contextmanager
def scanning(scanners: Sequence[Scanner]) -> Iterator[None]:
    """The scanners at work; whatever happens, none of them is left."""
    for scanner in scanners:
        scanner.start()
    try:
        yield
    finally:
        for scanner in scanners:
            scanner.give_up()
        for scanner in scanners:
            scanner.join()


def under_way(ledger: Ledger) -> int:
    """Series and jobs that the node has not finished."""
    now = status(ledger)
    series = sum(now.series.get(state, 0) for state in (SeriesState.ARRIVING, SeriesState.COMPLETE))
    ended = (JobState.DONE, JobState.CANCELLED, JobState.FAILED)
    return series + sum(count for state, count in now.jobs.items() if state not in ended)


def taken_for_whole(ledger: Ledger, series_uid: str) -> bool:
    found = rows(ledger, "SELECT state FROM series WHERE series_uid = :uid", uid=series_uid)
    return bool(found) and found[0][0] not in (SeriesState.ARRIVING, SeriesState.COMPLETE)


def rows(ledger: Ledger, query: str, **values: object) -> list[tuple[object, ...]]:
    """What the ledger's tables say."""
    with ledger.read() as session:
        return [tuple(row) for row in session.execute(text(query), values)]
