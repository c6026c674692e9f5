from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import MRImageStorage
from support.ct_factory import change_header as change
from support.ct_factory import make_series

from dicom_node.ct.read import read_series
from dicom_node.errors import IncompleteSeries, InputError, NotForUs, UnreadableFile


def truncate(paths: list[Path]) -> None:
    data = paths[1].read_bytes()
    paths[1].write_bytes(data[: len(data) // 2])


def cut_in_header(paths: list[Path]) -> None:
    paths[1].write_bytes(paths[1].read_bytes()[:400])


def text(paths: list[Path]) -> None:
    paths[1].write_text("not an image, whatever the name says\n" * 10)


def other_modality(paths: list[Path]) -> None:
    for path in paths:
        change(path, Modality="MR", SOPClassUID=MRImageStorage)


def two_orientations(paths: list[Path]) -> None:
    change(paths[1], ImageOrientationPatient=[1, 0, 0, 0, 0, -1])


def missing_slice(paths: list[Path]) -> None:
    del paths[2]


def copied_slice(paths: list[Path]) -> None:
    paths.append(Path(shutil.copy(paths[1], paths[1].with_name("copy.dcm"))))


def mixed_sizes(paths: list[Path]) -> None:
    small = make_series(
        paths[0].parent / "small",
        slices=2,
        size=32,
        patient_name="CANARY^BIRD",
        patient_id="C4N4RY",
    )
    paths[1] = Path(shutil.copy(small[1], paths[1]))


def mixed_series(paths: list[Path]) -> None:
    change(paths[1], SeriesInstanceUID="1.2.3")


def mixed_spacing(paths: list[Path]) -> None:
    change(paths[1], PixelSpacing=[0.9, 0.9])


def multi_frame(paths: list[Path]) -> None:
    change(paths[1], NumberOfFrames=2)


def localizer(paths: list[Path]) -> None:
    for path in paths:
        change(path, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])


def colour(paths: list[Path]) -> None:
    change(paths[0], SamplesPerPixel=3, PhotometricInterpretation="RGB")


def no_slope(paths: list[Path]) -> None:
    change(paths[0], RescaleSlope=None)


def zero_slope(paths: list[Path]) -> None:
    change(paths[0], RescaleSlope="0")


def no_position(paths: list[Path]) -> None:
    change(paths[0], ImagePositionPatient=None)


def crooked(paths: list[Path]) -> None:
    for path in paths:
        change(path, ImageOrientationPatient=[1, 0, 0, 1, 0, 0])


def flat_pixels(paths: list[Path]) -> None:
    change(paths[0], PixelSpacing=[0, 0.7])


def odd_bits(paths: list[Path]) -> None:
    change(paths[0], HighBit=15)


def unknown_syntax(paths: list[Path]) -> None:
    dataset = pydicom.dcmread(paths[0])
    dataset.PixelData = encapsulate([b"no picture"])
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.50"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(paths[0])


def nothing(paths: list[Path]) -> None:
    paths.clear()


@pytest.mark.parametrize(("spoil", "kind", "words"), [
    (truncate, UnreadableFile, r"Image 2 \(0002.dcm\).*cut off"),
    (cut_in_header, UnreadableFile, "0002.dcm.*cut off"),
    (text, UnreadableFile, "0002.dcm is not a DICOM file"),
    (other_modality, NotForUs, r"Image 1 \(0001.dcm\).*MR"),
    (two_orientations, InputError, "two or more orientations"),
    (missing_slice, IncompleteSeries, "1 slice is missing: Image 2 .* and Image 4 .* 5 mm apart"),
    (copied_slice, InputError, r"Image 2 \(0002.dcm\) and Image 2 \(copy.dcm\) lie at the same"),
    (mixed_sizes, InputError, "several sizes"),
    (mixed_series, InputError, "several series"),
    (mixed_spacing, InputError, "several pixel spacings"),
    (multi_frame, NotForUs, "multi-frame"),
    (localizer, NotForUs, "localizer"),
    (colour, NotForUs, "colour"),
    (no_slope, UnreadableFile, "no usable RescaleSlope"),
    (zero_slope, UnreadableFile, "RescaleSlope of 0"),
    (no_position, UnreadableFile, "no usable ImagePositionPatient"),
    (crooked, UnreadableFile, "perpendicular"),
    (flat_pixels, UnreadableFile, "PixelSpacing"),
    (odd_bits, UnreadableFile, "high bit 15"),
    (unknown_syntax, UnreadableFile, "JPEG Baseline.*cannot be read here"),
    (nothing, InputError, "no files"),
])  # fmt: skip
def test_every_kind_of_bad_input_is_one_clear_sentence(
    tmp_path: Path, spoil: Callable[[list[Path]], None], kind: type[InputError], words: str
) -> None:
    paths = make_series(
        tmp_path, slices=6, size=48, patient_name="CANARY^BIRD", patient_id="C4N4RY"
    )
    spoil(paths)
    with pytest.raises(kind, match=words) as caught:
        read_series(paths)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert "CANARY" not in message
    assert "C4N4RY" not in message
