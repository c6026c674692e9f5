from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.ct_factory import make_series

from man_core import Condition, ModelCard, Volume
from man_core.quality import SOFT_TISSUE
from training.cli import main
from training.errors import RecipeError, TrainingError
from training.evaluate.cases import Case, Wanted, cases
from training.evaluate.classical import gaussian_blur
from training.evaluate.methods import Method, methods_of
from training.evaluate.run import Row, evaluate
from training.evaluate.windows import window_of
from training.tables.card import add_to_card
from training.tables.terminal import row_tables

SIZE = 64


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """The same three places at low dose and, one place more, at full dose."""
    make_series(tmp_path / "low", 3, SIZE, study="a", series_number=2, noise_hu=40, seed=1)
    make_series(tmp_path / "full", 4, SIZE, study="a", series_number=1, noise_hu=10)
    return tmp_path / "low", tmp_path / "full"


def row(name: str, sha256: str = "", psnr_db: float = 20.0) -> Row:
    return Row(
        split="validation",
        dose=0.25,
        real=False,
        window_hu=SOFT_TISSUE,
        row=name,
        weights_sha256=sha256,
        steps=4 if sha256 else 0,
        sampler="ddim" if sha256 else "",
        psnr_db=psnr_db,
        ssim=0.5,
        lpips=math.nan,
        bias_hu={"fat": 0.1},
        slices=2,
        seconds_per_slice=0.0,
    )


def test_real_pairs_are_matched_slice_by_slice(pair: tuple[Path, Path]) -> None:
    (case,) = cases(*pair, Wanted(doses=(0.25,), slices=2))
    assert (case.real, case.dose, case.split) == (True, 0.25, "low")
    assert case.low.shape == case.full.shape == (2, SIZE, SIZE)
    assert 20 < float(np.std(case.low.hu[:, 28:36, 28:36] - case.full[:, 28:36, 28:36])) < 60


def test_the_low_dose_row_comes_first_and_identity_equals_it(pair: tuple[Path, Path]) -> None:
    found = list(cases(*pair, Wanted()))
    low, gaussian, same = evaluate(
        methods_of(["identity"], device="cpu", gaussian=True), found, [SOFT_TISSUE]
    )
    assert [low.row, gaussian.row, same.row] == ["low dose", "best Gaussian", "identity"]
    assert same.psnr_db == low.psnr_db
    assert gaussian.psnr_db > low.psnr_db
    assert abs(low.bias_hu["soft tissue"]) < 5
    assert [part["slices"] for part in (low.to_dict(), same.to_dict())] == [3, 3]
    assert len(row_tables([low, gaussian, same])) == 1


def test_full_dose_as_input_is_the_truth_itself(pair: tuple[Path, Path]) -> None:
    (case,) = cases(pair[1], None, Wanted(doses=(1.0,), slices=1))
    assert np.array_equal(case.low.hu, case.full)
    (low,) = evaluate(methods_of([]), [case], [SOFT_TISSUE])
    assert low.psnr_db == math.inf
    assert low.to_dict()["psnr_db"] is None


def test_simulated_low_dose_is_the_same_each_time(pair: tuple[Path, Path]) -> None:
    first, again = (next(cases(pair[1], None, Wanted(slices=1))) for _ in range(2))
    assert np.array_equal(first.low.hu, again.low.hu)
    assert not np.array_equal(first.low.hu, first.full)


def test_every_sampler_and_step_count_is_a_row_of_its_own() -> None:
    methods = methods_of(["man"], device="cpu", samplers=["ddim", "dpmpp-2m"], steps=[1, 3])
    ways = [(method.sampler, method.steps) for method in methods[1:]]
    assert ways == [("ddim", 1), ("ddim", 3), ("dpmpp-2m", 1), ("dpmpp-2m", 3)]
    with pytest.raises(TrainingError, match="cannot be sampled by 'euler'"):
        methods_of(["man"], device="cpu", samplers=["euler"])


def test_slices_of_different_series_are_averaged_by_their_number() -> None:
    def method(values: list[float]) -> Method:
        return Method("low dose", "", 0, lambda case, _window: (case.full + values.pop(0), 0.0))

    def case_of(slices: int) -> Case:
        full = np.zeros((slices, SIZE, SIZE), dtype=np.float32)
        volume = Volume(full, (1.0, 1.0, 1.0), np.eye(4))
        return Case("validation", "x", "p", 0.25, False, volume, full, Condition())

    (mean,) = evaluate([method([4.0, 8.0])], [case_of(3), case_of(1)], [SOFT_TISSUE])
    expected = [-20 * math.log10(value / 400) for value in (4, 4, 4, 8)]
    assert mean.psnr_db == pytest.approx(np.mean(expected))
    assert mean.slices == 4


def test_pairs_without_partner_are_said(pair: tuple[Path, Path], tmp_path: Path) -> None:
    make_series(tmp_path / "other", 2, SIZE, patient_id="OTHER", study="b")
    with pytest.raises(TrainingError, match="No series in"):
        list(cases(pair[0], tmp_path / "other", Wanted()))


def test_windows_have_names_or_limits() -> None:
    assert window_of("soft") == SOFT_TISSUE
    assert window_of("-50,150") == (-50.0, 150.0)
    for text in ("wide", "5,1", "1,2,3"):
        with pytest.raises(RecipeError, match="Unknown window"):
            window_of(text)


def test_a_blur_keeps_the_mean_and_lowers_the_noise() -> None:
    noise = np.random.default_rng(0).normal(40, 20, (1, 64, 64)).astype(np.float32)
    blurred = gaussian_blur(noise, 1.0)
    assert blurred.mean() == pytest.approx(noise.mean(), abs=0.5)
    assert blurred.std() < 0.4 * noise.std()


def test_measured_rows_go_into_the_card_with_their_low_dose(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    card = ModelCard("m", "1", "man", "x", weights_sha256="abc", steps=4)
    path.write_text(card.to_json(), encoding="utf-8")
    for psnr_db in (25.0, 26.0):
        add_to_card(path, [row("low dose"), row("m", "abc", psnr_db), row("other", "def")])
    found = ModelCard.load(path)
    assert [(m.row, m.psnr_db) for m in found.measurements] == [("low dose", 20.0), ("m", 26.0)]
    assert found.digest == card.digest
    with pytest.raises(TrainingError, match="No row was measured"):
        add_to_card(path, [row("low dose"), row("other", "def")])
    with pytest.raises(TrainingError, match="sampler"):
        add_to_card(path, [row("low dose"), replace(row("m", "abc"), sampler="dpmpp-2m")])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["fit", "unheard-of", "--data", "x", "--out", "y"], 2),
        (["prepare", "x", "--out", "y", "--assign", "fitting"], 2),
        (["prepare", "x", "--out", "y", "--assign", "train", "--split", "z"], 2),
        (["simulate", "nowhere"], 1),
        (["export", "nowhere", "--out", "y"], 1),
        (["evaluate", "identity", "--data", "nowhere"], 1),
        (["evaluate", "unheard-of", "--data", "nowhere"], 1),
        (["evaluate", "identity", "--data", "nowhere", "--ceiling"], 1),
    ],
)
def test_errors_are_one_sentence(
    arguments: list[str],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["man-train", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == code
    assert said.err.startswith("man-train: ")
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_json_of_a_set_is_parsable(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", str(pair[0]), "--full", str(pair[1]), "--slices", "1", "--json"]
    monkeypatch.setattr(sys, "argv", ["man-train", "evaluate", "identity", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    rows = json.loads(capsys.readouterr().out)
    assert {part["row"] for part in rows} == {"low dose", "identity"}
