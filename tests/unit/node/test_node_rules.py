"""The default decision: original axial CT is denoised, the rest is skipped with a reason."""

from __future__ import annotations

from pydicom import Dataset

from dicom_node.rules import Denoise, Skip, decide

WORK = Denoise(model="man", strength=1.0, destinations=("pacs",))


def header(modality: str = "CT", *image_type: str) -> Dataset:
    dataset = Dataset()
    dataset.Modality = modality
    dataset.ImageType = list(image_type or ("ORIGINAL", "PRIMARY", "AXIAL"))
    return dataset


def test_an_original_axial_series_is_denoised() -> None:
    assert decide([header(), header()], otherwise=WORK) == WORK


def test_what_is_not_for_us_is_skipped_for_the_commonest_reason() -> None:
    localizer = header("CT", "ORIGINAL", "PRIMARY", "LOCALIZER")
    decision = decide([localizer, localizer, header("MR")], otherwise=WORK)
    assert decision == Skip("localizer (scout) images")


def test_a_mixed_series_is_left_to_its_job_to_tell() -> None:
    assert decide([header("MR"), header()], otherwise=WORK) == WORK


def test_a_series_without_a_readable_image_is_skipped() -> None:
    assert decide([], otherwise=WORK) == Skip("none of its files can be read as DICOM")


def test_a_damaged_header_is_a_reason() -> None:
    damaged = header()
    damaged.add_new("SamplesPerPixel", "LO", "many")
    assert decide([damaged], otherwise=WORK) == Skip("damaged headers")
