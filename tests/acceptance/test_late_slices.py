"""Half a series now and the rest later: the PACS holds one derived series, each image once."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydicom import dcmread
from support.ct_factory import make_series
from support.peers import Ports, node, node_settings, orthanc, storescu, wait_until, write_node

SLICES = 9


def test_the_rest_of_a_series_joins_what_was_sent_before(tmp_path: Path) -> None:
    ports = Ports()
    scan = make_series(tmp_path / "scan", slices=SLICES)
    config = write_node(tmp_path / "node", node_settings(ports))
    with orthanc(tmp_path / "pacs", ports) as pacs, node(config, ports.node):

        def stored() -> dict[str, str]:
            """What the PACS holds: SOP Instance UID to a hash of the whole file."""
            files = {}
            for instances in pacs.series().values():
                for instance in instances:
                    path = tmp_path / "seen.dcm"
                    path.write_bytes(pacs.file(instance))
                    uid = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
                    files[uid] = hashlib.sha256(path.read_bytes()).hexdigest()
            return files

        storescu(scan[:4], ports.node, calling="CTSCAN", called="DENOISE")
        first = wait_until("half has arrived", lambda: len(seen := stored()) == 4 and seen)
        storescu(scan, ports.node, calling="CTSCAN", called="DENOISE")
        both = wait_until("the rest has arrived", lambda: len(seen := stored()) == SLICES and seen)
        assert {uid: both[uid] for uid in first} == first
        assert len(pacs.series()) == 1
        log = (config.parent / "node.log").read_text()
        assert [line.count("images=5") for line in log.splitlines() if "] denoising " in line][
            1:
        ] == [1]
