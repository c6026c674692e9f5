"""Original axial CT images whose Rescale Type is unspecified: the place of air decides."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset
from support.ct_factory import make_series

from dicom_node.ct.read import read_series
from dicom_node.errors import NotForUs


def unspecified(dataset: Dataset) -> None:
    dataset.RescaleType = "US"


def without_rescaling(dataset: Dataset) -> None:
    dataset.RescaleType, dataset.RescaleIntercept = "US", 0


@pytest.mark.parametrize("padding", [None, 0])
def test_values_with_air_near_minus_1000_are_hounsfield_units(
    tmp_path: Path, padding: int | None
) -> None:
    series = read_series(make_series(tmp_path, change=unspecified, padding=padding))
    (remark,) = series.remarks
    assert "taken for HU" in remark


def test_values_with_air_elsewhere_are_not(tmp_path: Path) -> None:
    paths = make_series(tmp_path, change=without_rescaling)
    with pytest.raises(NotForUs, match="air does not lie near -1000"):
        read_series(paths)


def test_a_series_that_states_its_unit_has_no_remark(tmp_path: Path) -> None:
    assert read_series(make_series(tmp_path)).remarks == ()
