"""Consistency of a node, its ledger and its PACS after faults."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.states import JobState, SeriesState
from support.peers import Orthanc
from support.scanner import Scan, rows

Faults = list[str]


def inconsistencies(scans: Sequence[Scan], pacs: Orthanc, ledger: Ledger, storage: Path) -> Faults:
    """All inconsistencies; empty when the node has kept its promises.

    Every image the node said "success" to is at the PACS, denoised, exactly once, with its own
    pixels and its own patient; nothing else is there; the ledger agrees with the disk.
    """
    sources = {str(s.SOPInstanceUID): s for scan in scans for s in map(dcmread, scan.files)}
    return [
        *_at_the_pacs(sources, pacs),
        *_in_the_ledger(ledger),
        *_on_disk(ledger, storage),
    ]


def _at_the_pacs(sources: Mapping[str, Dataset], pacs: Orthanc) -> Faults:
    faults: Faults = []
    copies: Counter[str] = Counter()
    series: defaultdict[str, set[str]] = defaultdict(set)
    for instance in pacs.get("/instances"):
        derived = dcmread(BytesIO(pacs.file(instance)))
        origins = [
            str(item.ReferencedSOPInstanceUID) for item in derived.get("SourceImageSequence", [])
        ]
        if len(origins) != 1 or origins[0] not in sources:
            faults.append(f"the PACS has {derived.SOPInstanceUID}, which is of nothing we sent")
            continue
        source = sources[origins[0]]
        copies[origins[0]] += 1
        series[str(source.SeriesInstanceUID)].add(str(derived.SeriesInstanceUID))
        faults += [f"mixed up: {what} of {origins[0]}" for what in _differences(source, derived)]
    faults += [f"lost: {uid}" for uid in sources if copies[uid] == 0]
    faults += [f"{count} times at the PACS: {uid}" for uid, count in copies.items() if count > 1]
    faults += [
        f"{uid} has {len(own)} derived series" for uid, own in series.items() if len(own) > 1
    ]
    owners = Counter(uid for own in series.values() for uid in own)
    faults += [f"{uid} is of {count} sources" for uid, count in owners.items() if count > 1]
    return faults


def _differences(source: Dataset, derived: Dataset) -> list[str]:
    keywords = (
        "PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "InstanceNumber",
        "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    )  # fmt: skip
    wrong = [keyword for keyword in keywords if source[keyword].value != derived[keyword].value]
    if not np.array_equal(source.pixel_array, derived.pixel_array):  # the model changes nothing
        wrong.append("pixels")
    return wrong


def _in_the_ledger(ledger: Ledger) -> Faults:
    faults: Faults = []
    for number, state, reason in rows(ledger, "SELECT id, state, reason FROM job"):
        if state not in (JobState.DONE, JobState.CANCELLED):
            faults.append(f"job {number} is {state}: {reason}")
    for uid, state, reason in rows(ledger, "SELECT series_uid, state, reason FROM series"):
        if state != SeriesState.ENQUEUED:
            faults.append(f"series {uid} is {state}: {reason}")
    derived = (
        "SELECT job_id, count(*) FROM history WHERE before = 'DENOISING' AND after = 'DERIVED'"
    )
    for number, count in rows(ledger, f"{derived} GROUP BY job_id HAVING count(*) > 1"):
        faults.append(f"job {number} was derived {count} times")
    for (number,) in rows(ledger, "SELECT id FROM job WHERE owner IS NOT NULL"):
        faults.append(f"job {number} still has an owner")
    if ledger.engine.dialect.name == "sqlite":
        faults += [
            f"integrity: {row}" for row in rows(ledger, "PRAGMA integrity_check") if row != ("ok",)
        ]
        faults += [f"foreign key: {row}" for row in rows(ledger, "PRAGMA foreign_key_check")]
    return faults


def _on_disk(ledger: Ledger, storage: Path) -> Faults:
    """What the storage folder holds against what the ledger says it holds."""
    faults = [f"left over: {path.relative_to(storage)}" for path in storage.rglob("*.part")]
    inbox = storage / "inbox"
    kept = {str(path.relative_to(inbox)) for path in inbox.glob("*/*.dcm")}
    known = {str(name) for (name,) in rows(ledger, "SELECT name FROM instance WHERE NOT purged")}
    faults += [f"in the inbox without a row: {name}" for name in sorted(kept - known)]
    faults += [f"in the ledger without a file: {name}" for name in sorted(known - kept)]
    outbox = storage / "outbox"
    results = {folder.name: len(list(folder.iterdir())) for folder in outbox.iterdir()}
    jobs = {
        str(token): count for token, count in rows(ledger, "SELECT token, derived_count FROM job")
    }
    faults += [f"result of no job: {token}" for token in results.keys() - jobs.keys()]
    done = [str(token) for (token,) in rows(ledger, "SELECT token FROM job WHERE state = 'DONE'")]
    for token in done:
        if results.get(token) != jobs[token]:
            faults.append(f"result {token} has {results.get(token)} files, not {jobs[token]}")
    return faults
