"""Folders of denoised images made by any program: matched without a guess, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import yaml
from pydicom import Dataset
from pydicom.uid import CTImageStorage, generate_uid
from support.commands import man_train
from support.ct_factory import change_header, make_series, rewrite

from training.tables.results import load_result

SIZE = 64
SLICES = 4
ADDED_HU = 2
"""What the program of these tests adds to every pixel, so that its results are recognised."""


@dataclass
class Places:
    """A real pair, and the folder for results of its low dose."""

    low: Path
    full: Path
    out: Path
    uids: list[str] = field(default_factory=list)

    def denoise(self, change: Change, source: Path | None = None) -> Path:
        """Write a result of each image, as another program would."""
        self.out.mkdir(exist_ok=True)
        series = generate_uid()
        for path in sorted((source or self.low).glob("*.dcm")):
            result = pydicom.dcmread(path)
            uid = str(result.SOPInstanceUID)
            words = np.frombuffer(result.PixelData, "<u2") + np.uint16(ADDED_HU)
            result.PixelData = words.tobytes()
            result.SeriesInstanceUID, result.SOPInstanceUID = series, generate_uid()
            result.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
            change(result, uid)
            rewrite(result, self.out / f"result-{len(list(self.out.iterdir())):02d}.dcm")
        return self.out

    def files(self) -> list[Path]:
        return sorted(self.out.iterdir())

    def evaluate(self, *options: object) -> int:
        return man_train(
            "evaluate", self.out, "--data", self.low, "--full", self.full, "--json", *options
        )


Change = Callable[[Dataset, str], None]
"""Changes a result, given the SOP Instance UID of its source."""


@pytest.fixture
def places(tmp_path: Path) -> Places:
    found = Places(tmp_path / "low", tmp_path / "full", tmp_path / "acme")
    low = make_series(found.low, SLICES, SIZE, study="a", series_number=2, noise_hu=40, seed=1)
    make_series(found.full, SLICES, SIZE, study="a", series_number=1, noise_hu=10)
    found.uids = [str(pydicom.dcmread(path).SOPInstanceUID) for path in low]
    return found


def references(uids: Sequence[str]) -> list[Dataset]:
    items = []
    for uid in uids:
        items.append(Dataset())
        items[-1].ReferencedSOPClassUID, items[-1].ReferencedSOPInstanceUID = CTImageStorage, uid
    return items


def silent(_result: Dataset, _uid: str) -> None:
    """Name no source: the place has to do."""


def name_source(result: Dataset, uid: str) -> None:
    result.SourceImageSequence = references([uid])


def keep_uid(result: Dataset, uid: str) -> None:
    """Overwrite the pixels only, as a short script does."""
    result.SOPInstanceUID = uid


def without_place(result: Dataset, _uid: str) -> None:
    del result.ImagePositionPatient, result.ImageOrientationPatient


def rounded_place(result: Dataset, _uid: str) -> None:
    result.ImagePositionPatient = [round(float(mm), 1) for mm in result.ImagePositionPatient]


def anonymous(result: Dataset, uid: str) -> None:
    name_source(result, uid)
    result.PatientID = result.PatientName = ""
    result.StudyInstanceUID, result.FrameOfReferenceUID = generate_uid(), generate_uid()


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    return {row["row"]: row for row in json.loads(capsys.readouterr().out)}


@pytest.mark.parametrize(
    "change", [silent, name_source, keep_uid, without_place, rounded_place, anonymous]
)
def test_a_result_belongs_to_its_source_by_name_place_or_number(
    change: Change, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    places.denoise(change)
    assert places.evaluate() == 0
    rows = printed(capsys)
    assert list(rows) == ["low dose", "acme"]
    low, own = rows["low dose"], rows["acme"]
    for tissue, bias in low["bias_hu"].items():
        assert own["bias_hu"][tissue] == pytest.approx(bias + ADDED_HU, abs=0.02)
    assert (own["slices"], own["left_out"], own["weights_sha256"]) == (SLICES, 0, "")
    assert len(own["files_sha256"]) == 64
    assert low["files_sha256"] == ""


def test_an_image_made_from_several_slices_belongs_to_the_one_at_its_place(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    def average(result: Dataset, _uid: str) -> None:
        result.SourceImageSequence = references(places.uids)

    places.denoise(average)
    places.files()[1].unlink()
    assert places.evaluate() == 1
    assert "no result for 1 of the 4 slices" in capsys.readouterr().err


def test_images_that_were_only_looked_at_are_no_sources(places: Places) -> None:
    def look_at_all(result: Dataset, uid: str) -> None:
        result.SourceImageSequence = references([uid, *(u for u in places.uids if u != uid)])
        result.SourceImageSequence[0].SpatialLocationsPreserved = "YES"
        del result.ImagePositionPatient

    places.denoise(look_at_all)
    assert places.evaluate() == 0


def test_results_of_the_product_itself_are_measured(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    def own(result: Dataset, uid: str) -> None:
        name_source(result, uid)
        result.Manufacturer, result.ManufacturerModelName = "MAN", "MAN node"

    places.denoise(own)
    assert places.evaluate("--row", "ours") == 0
    assert list(printed(capsys)) == ["low dose", "ours"]


def test_the_hash_is_of_the_files_whatever_their_names(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    places.denoise(name_source)
    hashes = []
    for change in (list, rename_all, change_one):
        change(places.files())
        assert places.evaluate() == 0
        hashes.append(printed(capsys)["acme"]["files_sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


def rename_all(paths: Sequence[Path]) -> None:
    for path in paths:
        path.rename(path.with_name(f"renamed-{path.name}"))


def change_one(paths: Sequence[Path]) -> None:
    change_header(paths[0], SeriesDescription="changed")


def at_low(places: Places, number: int, **attributes: object) -> None:
    change_header(sorted(places.low.glob("*.dcm"))[number], **attributes)


def shift(path: Path, mm: float) -> None:
    x, y, z = pydicom.dcmread(path).ImagePositionPatient
    change_header(path, ImagePositionPatient=[float(x) + mm, y, z])


Spoil = Callable[[Places], object]

FAULTS: list[tuple[Change, Spoil, str]] = [
    (silent, lambda p: p.files()[2].unlink(), "no result for 1 of the 4 slices of low-1: slice 3"),
    (silent, lambda p: p.denoise(silent), "all belong to slice 1 at z"),
    (name_source, lambda p: p.denoise(name_source), "all belong to slice 1 at z"),
    (silent, lambda p: [change_header(f, PatientID="O") for f in p.files()], "of other patients"),
    (name_source, lambda p: change_header(p.files()[0], PatientID="O"), "is of another patient"),
    (
        name_source,
        lambda p: change_header(p.files()[0], PixelSpacing=[0.9, 0.9]),
        "has a pixel spacing of 0.9 x 0.9 mm, not 0.8 x 0.7 mm",
    ),
    (name_source, lambda p: shift(p.files()[1], 5), "lies at another position"),
    (silent, lambda p: shift(p.files()[1], 5), "no result for 1 of the 4 slices"),
    (silent, lambda p: [shift(f, 5) for f in p.files()], "none of its images lies at their"),
    (
        name_source,
        lambda p: change_header(p.files()[0], ImageOrientationPatient=[1, 0, 0, 0, 0, -1]),
        "has another orientation",
    ),
    (
        silent,
        lambda p: [
            change_header(
                f,
                PatientID="",
                PatientName="",
                StudyInstanceUID=generate_uid(),
                FrameOfReferenceUID=generate_uid(),
            )
            for f in p.files()
        ],
        "nothing in its images tells whose they are",
    ),
    (
        name_source,
        lambda p: change_header(p.files()[0], RescaleIntercept=0),
        "differs from its source by 1026 HU",
    ),
    (name_source, lambda p: change_header(p.files()[0], RescaleType="OD"), "in OD, not in HU"),
    (name_source, lambda p: change_header(p.files()[0], RescaleSlope=None), "no usable RescaleSl"),
    (
        lambda result, _uid: setattr(result, "SourceImageSequence", references([generate_uid()])),
        lambda _p: None,
        "name other images as their sources",
    ),
    (
        without_place,
        lambda p: [change_header(f, InstanceNumber=90 + k) for k, f in enumerate(p.files())],
        "none of its images has their instance numbers",
    ),
    (silent, lambda p: (p.out / "cut.dcm").write_bytes(b"\0" * 128 + b"DICM"), "cut.dcm"),
]


@pytest.mark.parametrize(("change", "spoil", "said"), FAULTS, ids=[said for *_, said in FAULTS])
def test_what_does_not_fit_is_refused_in_one_sentence(
    change: Change, spoil: Spoil, said: str, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    places.denoise(change)
    spoil(places)
    assert places.evaluate() == 1
    told = capsys.readouterr()
    assert told.err.startswith("man-train: ")
    assert said in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""
    assert "PHANTOM" not in told.err


def test_a_result_of_another_size_is_refused(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    places.denoise(silent)
    make_series(places.out / "one", 1, 2 * SIZE, study="a", series_number=3)
    places.files()[1].unlink()
    (result,) = (places.out / "one").iterdir()
    change_header(result, SourceImageSequence=references([places.uids[0]]))
    assert places.evaluate() == 1
    assert "has 128 x 128 pixels, not 64 x 64" in capsys.readouterr().err


@pytest.mark.parametrize("change", [name_source, keep_uid, lambda *_: None])
def test_results_of_the_full_dose_are_not_taken_for_those_of_the_low_dose(
    change: Change, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    places.denoise(change, source=places.full)
    code = places.evaluate()
    if change in (name_source, keep_uid):
        assert code == 1
        assert "was made from the full dose" in capsys.readouterr().err
    else:  # nothing in the files tells it
        assert code == 0


def test_one_image_is_never_the_result_of_two_series(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    places.denoise(silent)
    make_series(places.low / "again", SLICES, SIZE, study="a", series_number=5, description="x")
    assert places.evaluate() == 1
    assert "give one low-dose series at a time" in capsys.readouterr().err


def test_a_partial_set_is_measured_if_asked_and_every_row_says_so(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    places.denoise(name_source)
    places.files()[0].unlink()
    assert places.evaluate() == 1
    assert "--partial" in capsys.readouterr().err
    assert places.evaluate("--partial") == 0
    rows = printed(capsys)
    assert [(row["slices"], row["left_out"]) for row in rows.values()] == [(SLICES - 1, 1)] * 2
    for path in places.files():
        change_header(path, SourceImageSequence=references([generate_uid()]))
    assert places.evaluate("--partial") == 1
    assert "no result for any of the 4 slices" in capsys.readouterr().err


def test_simulated_low_dose_has_no_results_of_others(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    places.denoise(silent)
    assert man_train("evaluate", places.out, "--data", places.full) == 1
    assert "measure them on the folders of a real pair" in capsys.readouterr().err


def test_results_on_full_dose_show_what_they_change(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    places.denoise(name_source, source=places.full)
    options = ("--data", places.full, "--dose", 1, "--json")
    assert man_train("evaluate", places.out, *options) == 0
    assert printed(capsys)["acme"]["bias_hu"]["soft tissue"] == pytest.approx(ADDED_HU)


def test_two_rows_never_have_one_name(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    places.denoise(silent)
    assert places.evaluate("--row", "low dose") == 2
    assert "Two rows would be named 'low dose'" in capsys.readouterr().err
    assert places.evaluate("--row", "a", "--row", "b") == 2
    assert "more names of rows" in capsys.readouterr().err


def test_a_folder_is_a_row_of_a_table_on_real_pairs_only(
    places: Places, small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = {
        "title": "With results of others",
        "split": "validation",
        "cases": [
            {"name": "pair", "low": str(places.low), "full": str(places.full), "doses": [0.25]},
            {"set": str(small_set), "doses": [0.25]},
        ],
        "windows": ["exam"],
        "methods": [{"row": "Acme strength 3", "model": str(places.denoise(silent))}],
    }
    path, out = tmp_path / "table.yaml", tmp_path / "results"
    path.write_text(yaml.safe_dump(table), encoding="utf-8")
    places.files()[0].unlink()
    assert man_train("table", path, "--out", out) == 1
    assert "no result for 1 of the 4 slices" in capsys.readouterr().err
    assert man_train("table", path, "--out", out, "--partial", "--resume") == 0
    rows = load_result(out / "table.json").rows
    named = {(row.row, row.real): row for row in rows}
    assert set(named) == {("low dose", True), ("low dose", False), ("Acme strength 3", True)}
    page = (out / "table.md").read_text(encoding="utf-8")
    assert f"files `{named['Acme strength 3', True].files_sha256[:8]}`" in page
    assert "1 slice of this dose is in no row" in page
    table["cases"] = table["cases"][1:]
    path.write_text(yaml.safe_dump(table), encoding="utf-8")
    assert man_train("table", path, "--out", tmp_path / "other") == 1
    assert "no real pair of DICOM folders" in capsys.readouterr().err


def test_a_comparison_takes_a_folder_as_a_model(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    places.denoise(silent)
    options = ("--data", places.low, "--full", places.full, "--json")
    assert man_train("compare", "identity", places.out, *options) == 0
    pairs = {pair["figure"]: pair for pair in json.loads(capsys.readouterr().out)}
    assert pairs["HU off in soft tissue"]["second"] != pairs["HU off in soft tissue"]["first"]
