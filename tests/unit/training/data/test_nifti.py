"""NIfTI into a training set: the same HU and orientation as the DICOM it was made from."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel import orientations
from support.ct_factory import ellipse, make_series

from training.data.manifest import Manifest, load_manifest, slices_file
from training.data.nifti import find_nifti, read_nifti
from training.data.prepare import prepare
from training.data.scan import UnusableScanError
from training.data.splits import split_by_name
from training.errors import TrainingError

SIZE = 64
SPACING_MM = (2.5, 0.8, 0.7)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def lopsided(slices: int = 3) -> np.ndarray:
    """[slice, row, column]: tissue in air, with marks that no flip leaves alone."""
    hu = np.rint(ellipse(slices, SIZE, 20.0))
    hu[:, 8:20, 24:30] = 500.0
    hu[0, 30:40, 40:50] = 800.0
    return hu


def write_nifti(
    path: Path, hu: np.ndarray, *, codes: str = "LPS", dtype: type = np.int16, **header: object
) -> Path:
    """Write [slice, row, column] of axial DICOM with its axes in other directions."""
    affine = LPS_TO_RAS @ np.array(
        [
            [SPACING_MM[2], 0, 0, -20],
            [0, SPACING_MM[1], 0, -25],
            [0, 0, SPACING_MM[0], -50],
            [0, 0, 0, 1],
        ]
    )
    image = nibabel.Nifti1Image(hu.transpose(2, 1, 0).astype(dtype), affine)
    now = orientations.io_orientation(affine)
    turn = orientations.ornt_transform(now, orientations.axcodes2ornt(tuple(codes)))
    image = image.as_reoriented(turn)
    for key, value in header.items():
        image.header[key] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def codes() -> st.SearchStrategy[str]:
    """Every way in which the axes of axial slices may run."""
    plane = st.permutations([("L", "R"), ("P", "A")])
    picks = st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 1))
    return st.builds(
        lambda axes, pick: axes[0][pick[0]] + axes[1][pick[1]] + "SI"[pick[2]], plane, picks
    )


@settings(max_examples=16, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(codes=codes(), ending=st.sampled_from([".nii", ".nii.gz"]))
def test_whichever_way_the_axes_run_the_volume_is_the_same(
    tmp_path: Path, codes: str, ending: str
) -> None:
    hu = lopsided()
    scan = read_nifti(write_nifti(tmp_path / f"a{ending}", hu, codes=codes), "p", "a file")
    np.testing.assert_array_equal(scan.volume.hu, hu)
    assert scan.volume.spacing_mm == pytest.approx(SPACING_MM)
    assert scan.positions_mm == pytest.approx([-50.0, -47.5, -45.0])
    np.testing.assert_allclose(scan.volume.affine[:3, 3], (-20, -25, -50), atol=1e-4)


def prepared(tmp_path: Path, *inputs: Path, **options: object) -> tuple[Path, Manifest]:
    root = tmp_path / "set"
    prepare(list(inputs), root, split_by_name("train"), **options)  # type: ignore[arg-type]
    return root, load_manifest(root)


def test_nifti_gives_the_set_that_its_dicom_gives(tmp_path: Path) -> None:
    hu = lopsided()
    make_series(tmp_path / "dicom", hu=hu, spacing_mm=SPACING_MM, patient_id="P1")
    write_nifti(tmp_path / "nifti" / "P1" / "ct.nii.gz", hu, codes="RAS")
    root, manifest = prepared(tmp_path, tmp_path / "dicom", tmp_path / "nifti")
    first, second = manifest.series
    assert first.patient == second.patient, "a patient has one pseudonym, whatever the format"
    assert first.series != second.series
    arrays = [np.load(slices_file(root, entry.series)) for entry in (first, second)]
    np.testing.assert_array_equal(*arrays)
    for name in ("shape", "cutoff", "slices"):
        assert getattr(first, name) == getattr(second, name)
    assert first.pixel_mm == pytest.approx(second.pixel_mm), "NIfTI keeps 32 bits of millimetres"


def test_the_patient_is_the_folder_or_the_name_of_the_file(tmp_path: Path) -> None:
    for place in ("a.nii", "b.nii.gz", "sub-1/ses-1/ct.nii.gz", "sub-1/other.nii"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    patients = [patient for _, patient in find_nifti(tmp_path)]
    assert patients == ["a", "b", "sub-1", "sub-1"]
    assert find_nifti(tmp_path / "b.nii.gz")[0][1] == "b"


def test_low_dose_partners_are_matched_by_name_and_place(tmp_path: Path) -> None:
    hu = lopsided()
    write_nifti(tmp_path / "full" / "x.nii.gz", hu)
    noisy = hu[1:] + np.rint(np.random.default_rng(0).normal(0, 30, hu[1:].shape))
    path = write_nifti(tmp_path / "low" / "x.nii.gz", noisy)
    image = nibabel.load(path)
    image.affine[2, 3] += SPACING_MM[0]
    nibabel.save(nibabel.Nifti1Image(image.dataobj, image.affine), path)
    prepared(tmp_path, tmp_path / "full")
    _, manifest = prepared(tmp_path, tmp_path / "low", low_dose=0.25)
    (low,) = manifest.of("train", low=True)
    assert [entry.full_slice for entry in low.slices] == [1, 2]


def test_the_same_volume_is_not_added_twice(tmp_path: Path) -> None:
    write_nifti(tmp_path / "in" / "x.nii.gz", lopsided(), codes="RAS")
    write_nifti(tmp_path / "in" / "copy.nii", lopsided(), codes="LPS")
    _, manifest = prepared(tmp_path, tmp_path / "in")
    assert len(manifest.series) == 1


def test_padding_becomes_air(tmp_path: Path) -> None:
    hu = lopsided()
    hu[:, 0, :] = -3024.0
    write_nifti(tmp_path / "in" / "x.nii.gz", hu)
    root, manifest = prepared(tmp_path, tmp_path / "in")
    assert np.load(slices_file(root, manifest.series[0].series))[:, 0].max() == -1024


@pytest.mark.parametrize(
    ("change", "options", "reason"),
    [
        (lambda hu: hu + 1024, {}, "not HU"),
        (lambda hu: np.clip(hu, -160, 240), {}, "not HU"),
        (lambda hu: hu / 1000, {"dtype": np.float32}, "not HU"),
        (lambda hu: hu - 1500, {}, "no tissue"),
        (lambda hu: np.where(hu > 400, np.nan, hu), {"dtype": np.float32}, "not finite"),
        (lambda hu: hu, {"codes": "LSP"}, "no axial slices"),
        (lambda hu: hu, {"xyzt_units": 1}, "millimetres"),
    ],
)
def test_what_is_no_ct_in_hu_is_left_out_with_its_reason(
    tmp_path: Path, change: object, options: dict[str, object], reason: str
) -> None:
    path = write_nifti(tmp_path / "SECRET.nii.gz", change(lopsided()), **options)  # type: ignore
    with pytest.raises(UnusableScanError, match=reason) as error:
        read_nifti(path, "SECRET", "NIfTI file 1 of 1")
    assert "SECRET" not in str(error.value)


def test_a_volume_without_a_position_is_left_out(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "x.nii", lopsided())
    stored = bytearray(path.read_bytes())
    stored[252:256] = bytes(4)  # qform_code and sform_code of the header
    path.write_bytes(stored)
    with pytest.raises(UnusableScanError, match="orientation of the patient"):
        read_nifti(path, "x", "a file")


def test_torn_files_are_left_out_and_others_kept(tmp_path: Path) -> None:
    write_nifti(tmp_path / "in" / "x.nii.gz", lopsided())
    torn = write_nifti(tmp_path / "in" / "y.nii.gz", lopsided()[:2])
    torn.write_bytes(torn.read_bytes()[:5000])
    (tmp_path / "in" / "z.nii").write_bytes(b"no image at all")
    done = prepare([tmp_path / "in"], tmp_path / "set", split_by_name("train"))
    assert (done.added, len(done.skipped)) == (1, 2)
    with pytest.raises(TrainingError, match="None of the 1 series"):
        prepare([tmp_path / "in" / "z.nii"], tmp_path / "other", split_by_name("train"))
