"""Padding that no header declares, or a wrong one: the source's words, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset
from support.ct_factory import ellipse, make_series, outside_circle
from support.denoisers import ShiftingDenoiser

from dicom_node.ct.pixels import AIR_HU, Encoding, padding_mask, to_hu, to_words
from dicom_node.ct.read import read_series
from dicom_node.denoising.series import DenoiseOptions, GuardOptions, denoise_series
from man_core import Check, Condition, Verdict, load_denoiser

SIZE = 64
OUTSIDE = outside_circle(SIZE, SIZE)


def words_of(path: Path) -> NDArray[np.uint16]:
    dataset = pydicom.dcmread(path)
    return np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)


def shifted(files: list[Path], folder: Path) -> tuple[list[NDArray[np.uint16]], torch.Tensor]:
    """The derived words of a series in which everything was changed, and what the model saw."""
    denoiser = ShiftingDenoiser(3.0)
    report = denoise_series(
        files, folder, denoiser, DenoiseOptions(guard=GuardOptions(action="off"))
    )
    return [words_of(path) for path in report.files], torch.cat(denoiser.seen)


def filled(word: int, **header: object) -> Callable[[Dataset], None]:
    """A change of a data set: a word outside of the circle, and what the header says."""

    def change(dataset: Dataset) -> None:
        words = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)
        words = np.where(outside_circle(*words.shape), word & 0xFFFF, words)
        dataset.PixelData = words.astype("<u2").tobytes()
        for keyword, value in header.items():
            vr = "SS" if dataset.PixelRepresentation else "US"
            dataset.add_new(keyword, vr, value)

    return change


MAKERS = {
    "Toshiba, -2048 HU": ({"signed": True, "intercept": 0.0}, filled(-2048)),
    "Hitachi, -2000 HU": ({"signed": True, "bits": 16, "intercept": 0.0}, filled(-2000)),
    "GE, another declared": (
        {"signed": True, "bits": 16},
        filled(-2000, PixelPaddingValue=-32768),
    ),
    "declared as 2096 of twelve bits": (
        {"signed": True, "intercept": 0.0},
        filled(-2000, PixelPaddingValue=2096),
    ),
    "declared, unused bits zero": (
        {"signed": True, "intercept": 0.0},
        filled(-2000 & 0x0FFF, PixelPaddingValue=-2000),
    ),
    "unused bits zero": ({"signed": True, "intercept": 0.0}, filled(-2000 & 0x0FFF)),
    "a negative word in unsigned": ({}, filled(63536)),
    "the least word": ({}, filled(0x8000)),
    "extended scale": ({"bits": 16, "intercept": -8192.0}, filled(0)),
    "a range beside it": (
        {"signed": True, "bits": 16, "intercept": 0.0},
        filled(-3024, PixelPaddingValue=-32768, PixelPaddingRangeLimit=-32000),
    ),
}  # fmt: skip


@pytest.mark.parametrize("maker", MAKERS)
def test_padding_stays_bit_for_bit_and_the_network_sees_air(maker: str, tmp_path: Path) -> None:
    options, change = MAKERS[maker]
    files = make_series(tmp_path / "in", slices=2, size=SIZE, change=change, **options)  # type: ignore[arg-type]
    derived, seen = shifted(files, tmp_path / "out")
    before = read_series(files)
    for index, words in enumerate(derived):
        source = words_of(files[index])
        np.testing.assert_array_equal(words[OUTSIDE], source[OUTSIDE])
        np.testing.assert_array_equal(before.padding[index], OUTSIDE)
        changed = words[~OUTSIDE].astype(np.int16) - source[~OUTSIDE].astype(np.int16)
        np.testing.assert_array_equal(changed & 0x0FFF, 3)
        assert (seen[index].numpy()[OUTSIDE] == AIR_HU).all()


def test_signed_words_without_sign_extension_keep_their_hu(tmp_path: Path) -> None:
    """Only the padding keeps the source's pixel cells; HU are right whatever bits are above."""

    def zeroed(dataset: Dataset) -> None:
        filled(-2000, PixelPaddingValue=-2000)(dataset)
        words = np.frombuffer(dataset.PixelData, "<u2") & 0x0FFF
        dataset.PixelData = words.astype("<u2").tobytes()

    options = {"slices": 2, "size": SIZE, "signed": True, "intercept": 0.0}
    plain = make_series(
        tmp_path / "plain", change=filled(-2000, PixelPaddingValue=-2000), **options
    )  # type: ignore[arg-type]
    files = make_series(tmp_path / "zeroed", change=zeroed, **options)  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_series(files).volume.hu, read_series(plain).volume.hu)
    derived, _ = shifted(files, tmp_path / "out")
    expected, _ = shifted(plain, tmp_path / "plain-out")
    for words, right, path in zip(derived, expected, files, strict=True):
        np.testing.assert_array_equal(words[OUTSIDE], words_of(path)[OUTSIDE])
        np.testing.assert_array_equal(words & 0x0FFF, right & 0x0FFF)


def test_air_that_is_cut_off_is_no_padding(tmp_path: Path) -> None:
    """0 is -1024 HU in most series, and the air there is signal."""
    files = make_series(tmp_path / "in", slices=1, size=SIZE, change=filled(0))
    (words,), _ = shifted(files, tmp_path / "out")
    assert not read_series(files).padding.any()
    assert (words[OUTSIDE] == 3).all()


def test_what_is_low_inside_the_patient_is_signal(tmp_path: Path) -> None:
    hu = np.round(ellipse(1, SIZE))
    hu[0, 28:36, 28:36] = -2000  # streaks of metal at the end of the scale
    files = make_series(
        tmp_path / "in", hu=hu, signed=True, bits=16, intercept=0.0, change=filled(-2000)
    )
    (words,), _ = shifted(files, tmp_path / "out")
    np.testing.assert_array_equal(read_series(files).padding[0], OUTSIDE)
    assert (words[28:36, 28:36].astype(np.int16) == -1997).all()
    report = denoise_series(files, tmp_path / "same", load_denoiser("identity"))
    np.testing.assert_array_equal(words_of(report.files[0]), words_of(files[0]))


def test_noise_below_air_is_no_padding(tmp_path: Path) -> None:
    """Unclipped and loud, on a coarse scale, where neighbours often are equal."""
    noise = np.random.default_rng(0).normal(-1000.0, 80.0, (1, 256, 256))
    files = make_series(tmp_path / "in", hu=noise, signed=True, bits=16, slope=10.0, intercept=0.0)
    assert read_series(files).padding.mean() < 1e-3


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (8, 8), (1, 40), (65, 33)])
def test_an_image_of_padding_alone_stays_as_it_is(shape: tuple[int, int], tmp_path: Path) -> None:
    hu = np.full((1, *shape), -2000.0)
    files = make_series(tmp_path / "in", hu=hu, signed=True, bits=16, intercept=0.0)
    (words,), seen = shifted(files, tmp_path / "out")
    np.testing.assert_array_equal(words, words_of(files[0]))
    assert (seen.numpy() == AIR_HU).all()


@st.composite
def regions(draw: st.DrawFn) -> NDArray[np.bool_]:
    """The outside of a circle anywhere, a half-plane at any angle, or a frame."""
    rows, columns = draw(st.integers(24, 80)), draw(st.integers(24, 80))
    y, x = np.mgrid[:rows, :columns]
    kind = draw(st.sampled_from(["circle", "slant", "frame"]))
    if kind == "circle":
        centre = draw(st.floats(0.35, 0.65)) * rows, draw(st.floats(0.35, 0.65)) * columns
        radius = draw(st.floats(0.2, 0.55)) * min(rows, columns)
        return np.asarray(np.hypot(y - centre[0], x - centre[1]) > radius)
    if kind == "slant":
        angle = draw(st.floats(0, 2 * np.pi))
        along = (y - rows / 2) * np.sin(angle) + (x - columns / 2) * np.cos(angle)
        return np.asarray(along > draw(st.floats(0.1, 0.3)) * min(rows, columns))
    edge = draw(st.integers(1, 8))
    return np.asarray(
        (np.minimum(y, rows - 1 - y) < edge) | (np.minimum(x, columns - 1 - x) < edge)
    )


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    region=regions(),
    bits=st.integers(12, 16),
    signed=st.booleans(),
    below=st.integers(0, 500),
    unused=st.sampled_from(["sign", "zero", "overlay"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_constant_below_air_that_reaches_the_frame_is_padding(
    region: NDArray[np.bool_], bits: int, signed: bool, below: int, unused: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    encoding = Encoding(1.0, 0.0 if signed else -2048.0, bits, signed)
    value = int(-1101 - below - encoding.intercept)
    hu = np.where(rng.random(region.shape) < 0.5, 40.0, -1000.0) + rng.normal(0, 15, region.shape)
    stored = np.where(region, value, np.rint(np.maximum(hu, -1024) - encoding.intercept))
    words = stored.astype(np.int32)
    if unused != "sign":
        words &= (1 << bits) - 1
    if unused == "overlay":
        words |= rng.integers(0, 1 << 16 - bits, region.shape) << bits
    raw = (words & 0xFFFF).astype(np.uint16).view(encoding.dtype)
    np.testing.assert_array_equal(padding_mask(raw, encoding), region)
    seen = to_hu(raw, encoding)
    assert (seen[region] == AIR_HU).all()
    back = to_words(seen + 7, encoding, raw)
    np.testing.assert_array_equal(back[region], raw[region])


def test_single_pixels_of_a_value_that_is_padding_elsewhere_are_padding_too() -> None:
    """A circle that nearly fills the image leaves a pixel or two in a corner."""
    region = np.zeros((32, 40), np.bool_)
    region[:, -4:] = region[0, 0] = region[-1, :2] = True
    encoding = Encoding(1.0, -2048.0, 12, False)
    words = np.where(region, 48, 1048).astype(np.uint16)
    words[16, 16] = 48  # not at the frame: signal
    np.testing.assert_array_equal(padding_mask(words, encoding), region)


class OnPadding(ShiftingDenoiser):
    """Makes nonsense of padding, and changes other air."""

    def denoise(
        self,
        hu: torch.Tensor,
        condition: Condition,
        generator: torch.Generator,
        on_step: object = None,
    ) -> torch.Tensor:
        changed = super().denoise(hu, condition, generator)
        return torch.where(hu == AIR_HU, torch.tensor(300.0), changed)


@pytest.mark.parametrize(("shift_hu", "verdict"), [(0.0, Verdict.OK), (8.0, Verdict.FLAG)])
def test_the_guard_does_not_count_padding(
    shift_hu: float, verdict: Verdict, tmp_path: Path
) -> None:
    """A model that fails on padding does no harm; air beside it is measured alone."""
    options = {"signed": True, "bits": 16, "intercept": 0.0, "change": filled(-2000)}
    hu = np.round(ellipse(2, 256, noise_hu=10.0))
    hu[hu == AIR_HU] += 1
    files = make_series(tmp_path / "in", hu=hu, **options)  # type: ignore[arg-type]
    report = denoise_series(files, tmp_path / "out", OnPadding(0.0, shift_hu))
    air = next(one for one in report.denoise.findings if one.check is Check.DRIFT_AIR)
    assert air.value == pytest.approx(shift_hu, abs=0.5)
    assert report.denoise.verdict is verdict
    outside = outside_circle(256, 256)
    for before, after in zip(files, report.files, strict=True):
        np.testing.assert_array_equal(words_of(after)[outside], words_of(before)[outside])


def test_padding_that_is_declared_rightly_is_all_there_is(tmp_path: Path) -> None:
    files = make_series(tmp_path, slices=1, padding=-2000, signed=True, bits=16, intercept=0.0)
    np.testing.assert_array_equal(read_series(files).padding[0], OUTSIDE)


def test_the_network_sees_tissue_continued_into_padding_whose_words_stay(tmp_path: Path) -> None:
    hu = np.full((2, SIZE, SIZE), 40.0)
    options = {"signed": True, "bits": 16, "intercept": 0.0, "change": filled(-2000)}
    files = make_series(tmp_path / "in", hu=hu, **options)  # type: ignore[arg-type]
    derived, seen = shifted(files, tmp_path / "out")
    for index, words in enumerate(derived):
        np.testing.assert_array_equal(words[OUTSIDE], words_of(files[index])[OUTSIDE])
        assert (words[~OUTSIDE] == 43).all()
        assert (seen[index].numpy() == 40.0).all()
