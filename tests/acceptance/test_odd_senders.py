"""Faults of senders that other archives accept: the node accepts them too, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from support.ct_factory import make_series, recode
from support.node_under_test import Archive, NodeUnderTest, archive, node_under_test, send_once
from support.peers import Process, wait_until
from support.raw_dicom import store
from support.receivers import data_set_of

ROOT = "1.2.826.0.1.3680043.8.498.20111103.05453119"
"""A component with a leading zero, as some makers write their dates and times."""

LONG = "1.2.826.0.1.3680043.8.498." + "9" * 40
SLICES = 3


def odd_uids(dataset: Dataset) -> None:
    number = int(dataset.InstanceNumber)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{ROOT}.007", f"{ROOT}.0"
    dataset.SOPInstanceUID = f"{LONG[:63]}.{number}"
    dataset.FrameOfReferenceUID = f"{ROOT}.1"


def derived(node: NodeUnderTest, store: Archive) -> list[Dataset]:
    """What the archive got."""
    wait_until(
        "the archive has the result", lambda: len(store.files()) == SLICES and node.all_done()
    )
    return sorted((dcmread(path) for path in store.files()), key=lambda one: one.InstanceNumber)


def run(
    tmp_path: Path, send: Callable[[NodeUnderTest, Process], None]
) -> tuple[list[Dataset], list[Path]]:
    """The derived images, and the files in the inbox."""
    place = archive(tmp_path / "archive")
    with (
        node_under_test(tmp_path, more=place, destinations=["archive"]) as node,
        place.up(),
        node.node() as process,
    ):
        send(node, process)
        return derived(node, place), sorted(node.storage.rglob("inbox/*/*.dcm"))


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_uids_with_leading_zeros_and_of_65_characters_go_through_the_line(tmp_path: Path) -> None:
    files = make_series(tmp_path / "ct", slices=SLICES, change=odd_uids)
    sources = [dcmread(path) for path in files]
    assert {len(str(source.SOPInstanceUID)) for source in sources} == {65}

    def send(node: NodeUnderTest, process: Process) -> None:
        said = send_once(files, node.ports.node)
        assert said.returncode == 0, said.stdout + said.stderr
        wait_until("it is remarked", lambda: "PS3.5, 9.1" in log_of(node))
        assert log_of(node).count("PS3.5, 9.1") == 1

    results, kept = run(tmp_path, send)
    assert sorted(map(data_set_of, kept)) == sorted(map(data_set_of, files))
    assert sorted(dcmread(path).file_meta.MediaStorageSOPInstanceUID for path in kept) == sorted(
        source.SOPInstanceUID for source in sources
    )
    for result, source in zip(results, sources, strict=True):
        (reference,) = result.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert result.StudyInstanceUID == source.StudyInstanceUID
        assert result.FrameOfReferenceUID == source.FrameOfReferenceUID
        assert result.SOPInstanceUID.is_valid
        assert result.SeriesInstanceUID.is_valid


def test_implicit_data_under_an_explicit_syntax_goes_through_the_line(tmp_path: Path) -> None:
    files = make_series(tmp_path / "ct", slices=SLICES)
    for path in files:
        recode(path, ImplicitVRLittleEndian)

    def send(node: NodeUnderTest, process: Process) -> None:
        for path in files:
            uid = dcmread(path).SOPInstanceUID.encode()
            said = store(node.ports.node, data_set_of(path), sop_uid=uid, calling=b"CT1")
            assert said.statuses == [0]
        assert "not in the transfer syntax" in log_of(node)

    results, kept = run(tmp_path, send)
    assert sorted(map(data_set_of, kept)) == sorted(map(data_set_of, files))
    assert {dcmread(path).file_meta.TransferSyntaxUID for path in kept} == {ImplicitVRLittleEndian}
    assert {one.file_meta.TransferSyntaxUID for one in results} == {ExplicitVRLittleEndian}


def log_of(node: NodeUnderTest) -> str:
    return (node.config.parent / "node.log").read_text()
