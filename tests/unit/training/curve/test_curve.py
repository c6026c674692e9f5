"""The curve over dose gain and strength, with a model whose noise is known."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.ct_factory import make_series
from support.told_model import write_told_model

from man_core import Condition, Volume
from man_core.quality import SOFT_TISSUE
from man_core.texture import Texture
from training.assess import phantom
from training.cli import main
from training.curve.measure import Curve, measure_curve
from training.curve.page import save_curve
from training.curve.settings import Dial
from training.errors import TrainingError
from training.evaluate.cases import Case
from training.evaluate.methods import Method

SIZE = 96
GAINS = (1.0, 4.0, 16.0)
STRENGTHS = (0.0, 0.5, 1.0)
DEFAULT_GAIN = 4.0

Hu = NDArray[np.float32]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many slices as the observer needs at least."""
    monkeypatch.setattr(phantom, "REALISATIONS", 4)


def case(dose: float = 0.25) -> Case:
    """Soft tissue in air, without noise at full dose."""
    full = np.full((2, SIZE, SIZE), -1000.0, dtype=np.float32)
    full[:, 8:-8, 8:-8] = 50.0
    noise = np.random.default_rng(1).normal(0.0, 10.0 / math.sqrt(dose), full.shape)
    low = Volume((full + noise).astype(np.float32), (3.0, 0.8, 0.8), np.eye(4))
    return Case("validation", "a", "p", dose, False, low, full, Condition())


class Told:
    """Leaves as much noise as it is told, and counts its calls."""

    def __init__(self) -> None:
        self.gains: list[float] = []
        self._last: tuple[Case, Hu] | None = None

    def __call__(self, case: Case, _window: tuple[float, float]) -> tuple[Hu, float]:
        if self._last is None or self._last[0] is not case:
            gain = case.condition.dose_gain or DEFAULT_GAIN
            self.gains.append(gain)
            noise = (case.low.hu - case.full) / np.float32(math.sqrt(gain))
            self._last = case, case.full + noise
        return self._last[1], 1.0


def told(apply: Told) -> Method:
    return Method("told", "abcdef0123456789", 1, apply, "ddim", dose_gain=DEFAULT_GAIN)


def untold() -> Method:
    return Method("untold", "0123456789abcdef", 1, lambda c, _w: (c.full + 1.0, 1.0), "ddim")


def measured(*models: Method, phantom: bool = False) -> Curve:
    cases = [case(), case(0.1)]
    return measure_curve(models, cases, SOFT_TISSUE, GAINS, STRENGTHS, phantom=phantom)


def test_noise_left_follows_the_gain_and_the_strength() -> None:
    model = told(Told())
    curve = measured(model)
    for kind in curve.kinds():
        gains = [p.noise_left for p in curve.of(model, Dial.GAIN) if p.kind == kind]
        assert gains == pytest.approx([1.0, 0.5, 0.25], abs=0.02)
        strengths = [p.noise_left for p in curve.of(model, Dial.STRENGTH) if p.kind == kind]
        assert strengths == pytest.approx([1.0, 0.75, 0.5], abs=0.02)


def test_full_strength_is_the_default_gain_and_no_strength_the_untouched_low_dose() -> None:
    model = told(Told())
    curve = measured(model)
    for untouched in (point for point in curve.points if point.dial == Dial.NONE):
        strength, gain = (
            {p.value: p.row.psnr_db for p in curve.of(model, dial) if p.kind == untouched.kind}
            for dial in (Dial.STRENGTH, Dial.GAIN)
        )
        assert strength[1.0] == gain[DEFAULT_GAIN] > gain[1.0]
        assert strength[0.0] == pytest.approx(untouched.row.psnr_db) == pytest.approx(gain[1.0])


def test_each_gain_needs_the_model_once_a_case_and_strengths_nothing_more() -> None:
    apply = Told()
    measured(told(apply))
    assert sorted(apply.gains) == sorted(GAINS * 2)


def test_the_default_is_named_for_each_dial() -> None:
    model = told(Told())
    curve = measured(model)
    assert curve.default_of(model, Dial.GAIN) == 16.0
    assert curve.default_of(model, Dial.STRENGTH) == 1.0


def textured(texture: Texture | None = None) -> Method:
    """Takes all noise away but the texture."""

    def apply(case: Case, _window: tuple[float, float]) -> tuple[Hu, float]:
        share = texture.share if texture else 0.0
        return case.full + np.float32(1.0) + np.float32(share) * (case.low.hu - case.full), 1.0

    return Method("textured", "fedcba9876543210", 1, apply, "ddim", textured=textured)


def test_a_texture_leaves_its_share_of_the_noise(tmp_path: Path) -> None:
    model, kept = textured(), [Texture(share, 0.7) for share in (0.0, 0.2, 0.4)]
    cases = [case(), case(0.1)]
    curve = measure_curve([model], cases, SOFT_TISSUE, GAINS, STRENGTHS, kept, phantom=False)
    for kind in curve.kinds():
        left = [p.noise_left for p in curve.of(model, Dial.TEXTURE) if p.kind == kind]
        assert left == pytest.approx([0.0, 0.2, 0.4], abs=0.02)
    assert curve.default_of(model, Dial.TEXTURE) == 0.0
    pages = {path.suffix: path.read_text("utf-8") for path in save_curve(curve, tmp_path)[:2]}
    assert "- `textured`, weights `fedcba98`: texture 0 of sigma 0.7 pixels.\n" in pages[".md"]
    assert json.loads(pages[".json"])["sigma_pixels"] == 0.7


def test_of_equal_textures_the_one_that_keeps_most_is_chosen() -> None:
    model = untold()
    same = replace(model, textured=lambda _texture: model)
    kept = [Texture(share, 0.7) for share in (0.1, 0.3)]
    curve = measure_curve([same], [case()], SOFT_TISSUE, (), (1.0,), kept, phantom=False)
    assert curve.default_of(same, Dial.TEXTURE) == 0.3


def test_a_model_that_cannot_be_told_has_strengths_only(tmp_path: Path) -> None:
    model = untold()
    curve = measured(model)
    assert curve.default_of(model, Dial.GAIN) is None
    assert {p.dial for p in curve.points} == {Dial.NONE, Dial.STRENGTH}
    page = next(path for path in save_curve(curve, tmp_path) if path.suffix == ".md")
    assert "- `untold`, weights `01234567`: strength 1.\n" in page.read_text(encoding="utf-8")


def test_files_hold_every_point_of_every_kind(tmp_path: Path) -> None:
    curve = measured(told(Told()), untold(), phantom=False)
    names = [path.name for path in save_curve(curve, tmp_path)]
    assert names == ["curve.json", "curve.md", "curve-1.png", "curve-2.png"]
    facts = json.loads((tmp_path / "curve.json").read_text(encoding="utf-8"))
    assert len(facts["points"]) == 2 * (1 + len(GAINS) + 2 * len(STRENGTHS))
    assert facts["models"][0]["chosen"] == {"gain": 16.0, "strength": 1.0, "texture": None}
    assert facts["points"][0]["detectability"] is None
    dialled = [(p["dial"], p["value"]) for p in facts["points"] if p["model"] == "told"]
    assert dialled[:6] == [*(("strength", s) for s in STRENGTHS), *(("gain", g) for g in GAINS)]
    page = (tmp_path / "curve.md").read_text(encoding="utf-8")
    assert page.count("**gain 16**") == page.count("| gain 1 |") == 2


def test_the_phantom_tells_noise_left_and_detectability() -> None:
    model = told(Told())
    curve = measure_curve([model], [case()], SOFT_TISSUE, GAINS, ())
    low, *points = curve.points
    assert low.water.noise_left == pytest.approx(1.0)
    assert max(point.water.noise_left for point in points) > 0.9
    assert all(math.isfinite(p.water.detectability) for p in curve.points)


def test_without_cases_there_is_no_curve() -> None:
    with pytest.raises(TrainingError, match="nothing to evaluate"):
        measure_curve([untold()], [], SOFT_TISSUE, GAINS, STRENGTHS)


def man_train(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["man-train", *map(str, words)])
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_the_command_measures_a_network_that_is_told_its_gain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_series(tmp_path / "full", 2, 64, study="a", series_number=1, noise_hu=10)
    card, out = write_told_model(tmp_path / "model"), tmp_path / "out"
    words = ("curve", card, "identity", "--data", tmp_path / "full", "--out", out, "--no-phantom")
    dials = ("--gain", 2, "--gain", 8, "--strength", 1, "--dose", 0.25, "--json")
    assert man_train(monkeypatch, *words, *dials) == 0
    assert str(out / "curve.md") in json.loads(capsys.readouterr().out)["files"]
    facts = json.loads((out / "curve.json").read_text(encoding="utf-8"))
    dialled = [(p["model"], p["dial"], p["value"]) for p in facts["points"]]
    assert dialled == [
        ("low dose", "untouched", 0.0),
        ("told", "strength", 1.0),
        ("told", "gain", 2.0),
        ("told", "gain", 8.0),
        ("identity", "strength", 1.0),
    ]


def test_a_default_is_never_chosen_on_the_test_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("curve", "identity", "--data", tmp_path, "--out", tmp_path / "out", "--split", "test")
    assert man_train(monkeypatch, *words) == 2
    assert "never on `test`" in capsys.readouterr().err
