"""What reading hostile images costs in memory: hardly more than reading ordinary ones.

The images lie in the inbox as if they had come before the door looked at such things. A process of
its own completes and denoises them as housekeeping and worker do, and says how much it took.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from support import bombs
from support.ct_factory import make_series
from support.ledger_factory import NodeFixture

from dicom_node.encoding.file_meta import file_meta

TESTS = str(Path(__file__).parents[1])
MAX_MORE_MIB = 100
MAX_HOUSEKEEPING_MIB = 400

PROCESS = """
import json, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from support.ledger_factory import NodeFixture, House, START
from dicom_node.ledger.operations import list_jobs
from dicom_node.ledger.series import list_series
node, work = NodeFixture(Path({folder!r})), {work!r}
def peak():
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) >> 10 for row in rows if row.startswith("VmHWM:"))
if work:
    from support.workers import model_worker
    worker = model_worker(node, START + 2000)
    while worker.work_once(lambda: False):
        pass
else:
    House(node).complete_series(START + 1000)
print(json.dumps({{
    "peak": peak(),
    "series": {{one.series_uid: one.reason for one in list_series(node.ledger)}},
    "jobs": {{one.series_uid: [one.state, one.reason] for one in list_jobs(node.ledger)}},
}}))
"""

Spoil = Callable[[bytes], bytes]


def arrive(
    node: NodeFixture,
    study: str,
    spoil: Spoil,
    syntax: str = ExplicitVRLittleEndian,
    slices: int = 3,
) -> str:
    """A series whose data sets were spoilt is in inbox and ledger."""
    uid = ""
    for path in make_series(node.folder / study, slices=slices, size=32, study=study):
        header = dcmread(path, stop_before_pixels=True)
        uid, sop_uid = str(header.SeriesInstanceUID), str(header.SOPInstanceUID)
        meta = file_meta(str(CTImageStorage), sop_uid, syntax)
        data = spoil(bombs.encoded(str(path))[1])
        stored = node.inbox.put(meta, data, series_uid=uid, sop_uid=sop_uid)
        node.record(stored, uid, sop_uid)
    return uid


def run(node: NodeFixture, *, work: bool) -> dict[str, dict[str, str]]:
    code = PROCESS.format(tests=TESTS, folder=str(node.folder), work=work)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture
def ordinary(tmp_path: Path) -> dict[bool, int]:
    """What an ordinary series alone costs each of both processes."""
    node = NodeFixture(tmp_path / "ordinary")
    arrive(node, "ordinary", lambda data: data)
    return {work: int(str(run(node, work=work)["peak"])) for work in (False, True)}


def test_hostile_series_cost_hardly_more_than_an_ordinary_one(
    tmp_path: Path, ordinary: dict[bool, int]
) -> None:
    node = NodeFixture(tmp_path)
    swelling = arrive(
        node,
        "swelling",
        lambda data: bombs.inflating(data, 30 << 20, 16),
        DeflatedExplicitVRLittleEndian,
    )
    deep = arrive(node, "deep", lambda d: bombs.inserted(d, bombs.nest(20_000, defined=True)))
    many = arrive(node, "many", lambda data: bombs.inserted(data, bombs.items(1_000_000)))
    private = arrive(
        node, "private", lambda data: bombs.inserted(data, bombs.private(60 << 20)), slices=8
    )
    innocent = arrive(node, "innocent", lambda data: data)
    seen = run(node, work=False)
    worked = run(node, work=True)
    for uid in (swelling, deep, many):
        assert seen["series"][uid] == "none of its files can be read as DICOM"
    for uid in (private, innocent):
        assert worked["jobs"][uid] == ["DERIVED", ""]
    assert int(str(seen["peak"])) < ordinary[False] + MAX_MORE_MIB
    assert int(str(seen["peak"])) < MAX_HOUSEKEEPING_MIB
    assert int(str(worked["peak"])) < ordinary[True] + MAX_MORE_MIB
