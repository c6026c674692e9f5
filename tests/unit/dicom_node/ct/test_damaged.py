"""Any byte of a header may be wrong: the answer is a derived series or one clear sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from support.ct_factory import make_series, recode
from support.slices import read_slices

from dicom_node.ct.derived.image import derive_image
from dicom_node.ct.derived.provenance import Provenance
from dicom_node.ct.files import encode
from dicom_node.ct.read import open_series, scan_folder
from dicom_node.errors import InputError

MADE_BY = Provenance("man", "1", "ab" * 32, "cd" * 32, steps=1, strength=1.0, seed=1)
FIRST_BYTE = 132
PIXEL_DATA = b"\xe0\x7f\x10\x00"


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(places=[(0.1010554628272993, 142)])  # a transfer syntax that is not text
@given(places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_headers_never_end_in_a_traceback(
    tmp_path: Path, syntax: str, places: list[tuple[float, int]]
) -> None:
    (path,) = make_series(tmp_path, slices=1, size=8)
    recode(path, syntax)
    data = bytearray(path.read_bytes())
    for place, value in places:
        data[FIRST_BYTE + int(place * (data.rindex(PIXEL_DATA) - FIRST_BYTE - 1))] = value
    path.write_bytes(data)
    assert "\n" not in outcome(tmp_path)


def outcome(folder: Path) -> str:
    try:
        for paths in scan_folder(folder).series:
            for one, hu in read_slices(open_series(paths)):
                encode(derive_image(one, hu, MADE_BY))
    except InputError as error:
        return str(error)
    return "derived"
