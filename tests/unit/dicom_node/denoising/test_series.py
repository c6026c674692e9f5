from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pydicom
import pytest
import torch
from support.compression import compress
from support.converters import DECODE, WRITE, Pool, pool
from support.ct_factory import change_header, make_series
from support.peers import wait_until

from dicom_node.denoising.folder import Orders, denoise_folder
from dicom_node.denoising.series import DenoiseOptions, GuardOptions, denoise_series
from dicom_node.encoding.element_selection import ElementScope
from dicom_node.encoding.file_reader import read_elements
from dicom_node.errors import InputError, ModelUnavailable, StorageError, UnreadableFile
from man_core import Condition, Denoiser, ModelCard, Stopped, load_denoiser

__all__ = ["pool"]

IDENTITY = load_denoiser("identity")


class Shift:
    """Adds HU, and records the acquisition facts it was given."""

    def __init__(self, by_hu: float) -> None:
        self.info = ModelCard(name="shift", version="1", method="shift", summary="adds HU")
        self.device, self.steps = "cpu", 1
        self.by_hu = by_hu
        self.told: list[Condition] = []

    def denoise(
        self,
        hu: torch.Tensor,
        condition: Condition,
        generator: torch.Generator,
        on_step: object = None,
    ) -> torch.Tensor:
        self.told.append(condition)
        return hu + self.by_hu

    def slices_at_once(self, rows: int, columns: int) -> int:
        return 2


def hashes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_series_becomes_a_derived_series(tmp_path: Path) -> None:
    source = make_series(tmp_path / "in", slices=5)
    denoiser, seen = Shift(1.0), []
    report = denoise_series(
        source,
        tmp_path / "out",
        denoiser,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert [path.name for path in report.files] == [f"{n:04d}.dcm" for n in range(1, 6)]
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert denoiser.told[0].kernel == "STANDARD"
    for before, after in zip(source, report.files, strict=True):
        low, high = pydicom.dcmread(before).pixel_array, pydicom.dcmread(after).pixel_array
        np.testing.assert_array_equal(high, low + 1)
        assert pydicom.dcmread(after).SeriesInstanceUID == report.derived_series_uid


def test_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    source = make_series(tmp_path / "in")
    first = denoise_series(source, tmp_path / "1", Shift(1.0))
    second = denoise_series(source[::-1], tmp_path / "2", Shift(1.0))
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2")
    assert first.derived_series_uid == second.derived_series_uid


def test_strength_blends_and_strength_zero_leaves_the_pixels(tmp_path: Path) -> None:
    source = make_series(tmp_path / "in", padding=0)
    report = denoise_series(source, tmp_path / "out", Shift(10.0), DenoiseOptions(strength=0.0))
    for before, after in zip(source, report.files, strict=True):
        np.testing.assert_array_equal(
            pydicom.dcmread(after).pixel_array, pydicom.dcmread(before).pixel_array
        )


def test_the_report_holds_no_identity(tmp_path: Path) -> None:
    source = make_series(tmp_path / "CANARY", patient_name="CANARY^BIRD", patient_id="C4N4RY")
    text = denoise_series(source, tmp_path / "CANARY2", IDENTITY).to_json()
    assert json.loads(text)["files"] == 4
    assert "CANARY" not in text
    assert "C4N4RY" not in text


def test_images_without_usable_numbers_are_named_by_their_place(tmp_path: Path) -> None:
    source = make_series(tmp_path / "in", slices=3)
    for path in source:
        change_header(path, InstanceNumber=7)
    report = denoise_series(source, tmp_path / "out", IDENTITY)
    assert [path.name for path in report.files] == ["0001.dcm", "0002.dcm", "0003.dcm"]


def test_originals_are_never_overwritten(tmp_path: Path) -> None:
    source = make_series(tmp_path)
    before = hashes(tmp_path)
    with pytest.raises(InputError, match="holds the original images"):
        denoise_series(source, tmp_path, IDENTITY)
    assert hashes(tmp_path) == before


def test_stopping_leaves_nothing_behind(tmp_path: Path) -> None:
    source = make_series(tmp_path / "in")
    with pytest.raises(Stopped):
        denoise_series(source, tmp_path / "out", IDENTITY, should_stop=lambda: True)
    assert not list((tmp_path / "out").iterdir())


def test_a_model_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    source = make_series(tmp_path / "in")
    with pytest.raises(ModelUnavailable, match="not finite"):
        denoise_series(source, tmp_path / "out", Shift(float("nan")))
    assert not list((tmp_path / "out").iterdir())


def test_a_destination_that_is_a_file_is_one_clear_sentence(tmp_path: Path) -> None:
    source = make_series(tmp_path / "in")
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StorageError, match="cannot be made a folder"):
        denoise_series(source, tmp_path / "out", IDENTITY)


def offline(source: Path, out: Path, denoiser: Denoiser = IDENTITY) -> dict[str, str]:
    outcomes = denoise_folder(source, out, denoiser)
    return {one.name: one.error or one.skipped or "done" for one in outcomes}


def test_one_series_lands_in_the_folder_that_was_named(tmp_path: Path) -> None:
    make_series(tmp_path / "in")
    assert offline(tmp_path / "in", tmp_path / "out") == {"series-1": "done"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "0001.dcm", "0002.dcm", "0003.dcm", "0004.dcm",
    ]  # fmt: skip


def test_a_folder_of_several_series_is_mirrored_with_reasons(tmp_path: Path) -> None:
    source = tmp_path / "in"
    make_series(source / "a", description="a")
    make_series(source / "b", description="b", image_type=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    holed = make_series(source / "c", description="c", slices=7)
    holed[3].unlink()
    (source / "d.dcm").write_text("no DICOM")
    results = offline(source, tmp_path / "out")
    assert results["a/series-1"] == "done"
    assert "localizer" in results["b/series-1"]
    assert "1 slice is missing" in results["c/series-1"]
    assert "not a DICOM file" in results["d.dcm"]
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 4
    again = offline(tmp_path / "out", tmp_path / "out2")
    assert again == {"a/series-1001": "already denoised by this product"}


def test_what_is_there_of_an_incomplete_series_is_denoised_when_asked_for(tmp_path: Path) -> None:
    make_series(tmp_path / "in", slices=7)[3].unlink()
    (outcome,) = denoise_folder(
        tmp_path / "in", tmp_path / "out", IDENTITY, orders=Orders(incomplete=True)
    )
    assert outcome.report is not None
    assert outcome.report.missing == "1 slice is missing between images 3 and 5"
    assert len(outcome.report.files) == 6


def test_series_that_share_a_folder_get_folders_of_their_own(tmp_path: Path) -> None:
    for number in (1, 2, 2):
        made = make_series(tmp_path / "made", series_number=number, description=str(number))
        count = len(list(tmp_path.glob("in/*")))
        for path in made:
            (tmp_path / "in").mkdir(exist_ok=True)
            path.rename(tmp_path / "in" / f"{count}-{path.name}")
            if count == 8:
                change_header(tmp_path / "in" / f"{count}-{path.name}", SeriesInstanceUID="1.2.3")
    denoise_folder(tmp_path / "in", tmp_path / "out", IDENTITY)
    folders = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert folders == ["series-1", "series-2", "series-2-2"]
    assert {len(list((tmp_path / "out" / name).iterdir())) for name in folders} == {4}


def test_files_are_written_while_later_slices_are_denoised(tmp_path: Path) -> None:
    source = make_series(tmp_path / "in", slices=6)
    written: list[str] = []

    class Waits(Shift):
        def denoise(self, *given: object, **named: object) -> torch.Tensor:
            if self.told:  # the slices before these are being written by somebody else
                last = f"{2 * len(self.told):04d}.dcm"
                wait_until(last, lambda: list((tmp_path / "out").rglob(last)))
                written.append(last)
            return super().denoise(*given, **named)  # type: ignore[arg-type]

    denoise_series(source, tmp_path / "out", Waits(1.0))
    assert written == ["0002.dcm", "0004.dcm"]
    denoise_series(source, tmp_path / "plain", Shift(1.0))
    assert hashes(tmp_path / "out") == hashes(tmp_path / "plain")


@pytest.mark.parametrize("at", [1, 5], ids=["first", "last"])
def test_a_slice_that_cannot_be_written_ends_the_work_and_leaves_what_was_there(
    tmp_path: Path, pool: Pool, at: int
) -> None:
    source = make_series(tmp_path / "in", slices=5)
    denoise_series(source, tmp_path / "out", IDENTITY)
    for file in (tmp_path / "out").iterdir():
        file.write_bytes(file.read_bytes() + b"\0" * 8)  # as of an earlier run, to be told apart
    before = hashes(tmp_path / "out")
    pool(
        f"if given[1].InstanceNumber == {at}: raise ValueError\n"
        "    return original(*given, **named)",
        "files.dcmwrite",
    )
    with pytest.raises(UnreadableFile, match=f"header of image {at}"):
        denoise_series(source, tmp_path / "out", IDENTITY)
    assert hashes(tmp_path / "out") == before


def test_a_full_disk_ends_the_work_and_leaves_nothing(tmp_path: Path, pool: Pool) -> None:
    source = make_series(tmp_path / "in", slices=5)
    pool("raise OSError(errno.ENOSPC, 'No space left on device')", "Path.write_bytes")
    with pytest.raises(StorageError, match=r"0001\.dcm cannot be written: No space left on device"):
        denoise_series(source, tmp_path / "out", Shift(1.0))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("place", [DECODE, WRITE], ids=["read", "derived"])
def test_processes_that_are_killed_on_the_way_change_nothing(
    tmp_path: Path, pool: Pool, place: str
) -> None:
    """A series longer than one process is worth, whose slices are no longer kept by anybody."""
    source = make_series(tmp_path / "in", slices=40, size=32)
    for path in source:
        compress(path, "jpeg-ls")
    denoise_series(source, tmp_path / "plain", Shift(1.0))
    pool("os.kill(os.getpid(), signal.SIGKILL)", place, once=True, size=2)
    denoise_series(source, tmp_path / "out", Shift(1.0))
    assert hashes(tmp_path / "out") == hashes(tmp_path / "plain")


def test_series_after_series_in_one_process_gives_the_same(tmp_path: Path, pool: Pool) -> None:
    """Whatever the processes keep of one that was given up, or of an earlier state of a file."""
    source = make_series(tmp_path / "in", slices=20, size=32)
    denoise_series(source, tmp_path / "1", Shift(1.0))
    with pytest.raises(ModelUnavailable):
        denoise_series(source, tmp_path / "2", Shift(float("nan")))
    for path in source:
        change_header(path, StationName="ELSEWHERE")
    denoise_series(source, tmp_path / "3", Shift(1.0))
    pool(size=2)
    denoise_series(source, tmp_path / "4", Shift(1.0))
    assert hashes(tmp_path / "3") == hashes(tmp_path / "4") != hashes(tmp_path / "1")


def test_stopping_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    source = make_series(tmp_path / "in", slices=6)
    denoiser = Shift(1.0)
    with pytest.raises(Stopped):
        denoise_series(
            source, tmp_path / "out", denoiser, should_stop=lambda: len(denoiser.told) == 2
        )
    assert len(denoiser.told) == 2
    assert not list((tmp_path / "out").iterdir())


def test_a_damaged_slice_ends_the_work_and_leaves_nothing(tmp_path: Path) -> None:
    """It is found in its turn, when files of earlier slices have been written."""
    source = make_series(tmp_path / "in", slices=6)
    source[4].write_bytes(source[4].read_bytes()[:-500])
    with pytest.raises(UnreadableFile, match=r"0005\.dcm.*damaged or cut off"):
        denoise_series(source, tmp_path / "out", Shift(1.0))
    assert not list((tmp_path / "out").iterdir())
    names = [one.name for one in threading.enumerate()]
    assert not [one for one in names if one.startswith(("read", "guard", "derive"))]


def test_a_file_is_read_for_its_header_and_once_more_for_all_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: Pool
) -> None:
    source = make_series(tmp_path / "in", slices=6)
    scopes: dict[str, list[ElementScope]] = {path.name: [] for path in source}
    log = tmp_path / "log"

    def noted(file: BinaryIO, wanted: ElementScope) -> pydicom.FileDataset:
        scopes[Path(file.name).name].append(wanted)
        return read_elements(file, wanted)

    monkeypatch.setattr("dicom_node.ct.headers.read_elements", noted)
    pool(
        f"print(Path(given[0].name).name, given[1], file=open({str(log)!r}, 'a'))\n"
        "    return original(*given, **named)",
        "headers.read_elements",
    )
    (outcome,) = denoise_folder(tmp_path / "in", tmp_path / "out", Shift(1.0))
    assert outcome.report is not None
    lean, whole = ElementScope(lean=True, pixels=False), ElementScope(lean=False, pixels=True)
    assert list(scopes.values()) == [[lean]] * 6
    assert sorted(log.read_text().splitlines()) == [f"{path.name} {whole}" for path in source]


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 9), (7, 1), (5, 33), (8, 8), (16, 16), (16, 20), (20, 20), (33, 47)]
)
@pytest.mark.parametrize("plain", [True, False])
def test_a_series_of_small_images_is_denoised(
    tmp_path: Path, shape: tuple[int, int], plain: bool
) -> None:
    """Whatever its sides, with noise or constant; two patches of tissue once ended in an error."""
    hu = np.full((2, *shape), 40.0)
    if not plain:
        hu += np.random.default_rng(0).normal(0.0, 20.0, hu.shape)
    make_series(tmp_path / "in", hu=hu)
    (outcome,) = denoise_folder(
        tmp_path / "in", tmp_path / "out", load_denoiser("man", device="cpu"),
        DenoiseOptions(guard=GuardOptions(action="flag")),
    )  # fmt: skip
    assert outcome.error is None
    assert outcome.report is not None
    for path in outcome.report.files:
        derived = pydicom.dcmread(path)
        assert (derived.Rows, derived.Columns) == shape
        assert derived.pixel_array.size == hu[0].size


def test_a_localizer_and_two_spacings_pass_offline(tmp_path: Path) -> None:
    def head(dataset: pydicom.Dataset) -> None:
        number = int(dataset.InstanceNumber)
        if number == 1:
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        elif number > 8:
            x, y, z = dataset.ImagePositionPatient
            dataset.SliceThickness = 5
            dataset.ImagePositionPatient = [x, y, z + 2.5 * (number - 8)]

    make_series(tmp_path / "in", slices=12, change=head)
    (outcome,) = denoise_folder(tmp_path / "in", tmp_path / "out", IDENTITY)
    assert outcome.report is not None
    assert len(outcome.report.files) == 11
    assert outcome.report.remarks == ("1 localizer (scout) image was left out",)
