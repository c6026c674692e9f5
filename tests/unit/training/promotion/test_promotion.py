"""`compare` and `promote` with real networks whose order is known: one of them is 25 HU off."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.ct_factory import make_series

from man_core import ModelCard, load_denoiser
from man_core.ancestry import Ancestor
from man_core.nets.redcnn import RedCnn, RedCnnConfig
from training.cli import main
from training.errors import TrainingError
from training.evaluate.comparison import CHANGE, LPIPS, PSNR, Kind, Paired, bias_in
from training.fit.task import RunFacts
from training.fit.tasks.export import export_model
from training.promotion.rule import faults
from training.promotion.site import Site, version_of

SIZE = 64
PATIENTS = 3
HU_OFF = 25.0
HU_PER_UNIT = 502.2
KIND = Kind("validation", 0.25, False, (-160.0, 240.0))


def model_in(folder: Path, hu_off: float = 0.0, seed: int = 0, name: str = "") -> Path:
    """A RED-CNN that gives its input back, off by so many HU; named like its folder."""
    torch.manual_seed(seed)
    network = RedCnn(RedCnnConfig(channels=2))
    torch.nn.init.constant_(network.up[-1].bias, hu_off / HU_PER_UNIT)
    card = ModelCard(name or folder.name, "", "redcnn", "For tests.", sampler="none", steps=0)
    facts = RunFacts("a test", 1, 1.0, "CPU")
    return export_model(card, network, network.config.to_dict(), folder, facts)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Full dose of three patients."""
    folder = tmp_path_factory.mktemp("held-out")
    for number in range(PATIENTS):
        options = {"patient_id": f"SECRET-{number}", "study": str(number), "noise_hu": 10.0}
        make_series(folder / str(number), 1, SIZE, seed=number, **options)
    return folder


def man_train(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["man-train", *map(str, arguments), "--device", "cpu"])
        with pytest.raises(SystemExit) as ended:
            main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def promote(
    capsys: pytest.CaptureFixture[str], model: Path, held_out: Path, site: Path, *more: object
) -> tuple[int, str, str]:
    words = ("promote", model, "--data", held_out, "--to", site, "--dose", 0.25, *more)
    return man_train(capsys, *words)


def test_a_model_is_promoted_under_a_name_that_no_other_has(
    held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, site = model_in(tmp_path / "first", HU_OFF), tmp_path / "site"
    for name in ("man", "first", "identity"):
        double = model_in(tmp_path / f"as-{name}", seed=1, name=name)
        code, shown, said = promote(capsys, double, held_out, site, "--current", first)
        assert (code, shown, said.count("\n")) == (1, "", 1), "refused before anything is measured"
        assert f"The name '{name}' belongs to a model with other weights" in said
        assert "--name NAME" in said
    assert not site.exists()


def test_a_name_once_promoted_stays_taken_after_a_return(
    held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = model_in(tmp_path / "first", HU_OFF), model_in(tmp_path / "second")
    site = tmp_path / "site"
    assert promote(capsys, second, held_out, site, "--current", first)[0] == 0
    assert man_train(capsys, "promote", "--back", "--to", site)[0] == 0
    other = model_in(tmp_path / "other", seed=1, name="second")
    assert promote(capsys, other, held_out, site)[0] == 1
    assert promote(capsys, second, held_out, site)[0] == 0, "the same weights keep their name"


def test_a_promoted_card_keeps_where_its_weights_came_from(tmp_path: Path) -> None:
    path = model_in(tmp_path / "model")
    origin = (Ancestor("first", "abc", "a set", "CC-BY-4.0", ("A clinic",)),)
    card = replace(ModelCard.load(path), started_from=origin)
    path.write_text(card.to_json(), encoding="utf-8")
    site = Site(tmp_path / "site")
    in_force = site.put_in_force(site.keep(path), {"action": "promote", "previous": None})
    assert ModelCard.load(in_force).started_from == origin


def test_a_worse_model_is_refused_and_a_better_one_promoted_and_taken_back(
    held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worse, better = model_in(tmp_path / "worse", HU_OFF), model_in(tmp_path / "better")
    site = tmp_path / "site"

    code, shown, said = promote(capsys, worse, held_out, site, "--current", better)
    assert code == 1
    note, refusal = said.splitlines()
    assert note.startswith("Note: LPIPS was not measured")
    assert "refused" in refusal
    assert "95 % interval" in shown
    assert ModelCard.load(worse).weights_sha256[:8] in shown
    assert not site.exists()

    code, _, _ = promote(capsys, better, held_out, site, "--current", worse)
    assert code == 0
    in_force = ModelCard.load(site / "model.json")
    assert in_force.digest == ModelCard.load(better).digest
    hu = torch.full((1, 32, 32), 40.0)
    restored = load_denoiser(str(site / "model.json"), device="cpu").denoise(
        hu, None, torch.Generator()
    )
    torch.testing.assert_close(restored, hu, atol=0.5, rtol=0)

    code, _, said = promote(capsys, better, held_out, site)
    assert code == 1
    assert "the current model already" in said, "without --current, today's is the one in force"

    assert man_train(capsys, "promote", "--back", "--to", site)[0] == 0
    assert ModelCard.load(site / "model.json").digest == ModelCard.load(worse).digest
    assert load_denoiser(str(site / "model.json"), device="cpu").info.name == "worse"
    lines = list(Site(site).history())
    assert [line["action"] for line in lines] == ["promote", "back"]
    assert lines[0]["patients"] == PATIENTS
    assert lines[0]["figures"][0]["patients"]["patient-1"]["first"] is not None
    assert "SECRET" not in (site / "history.jsonl").read_text("utf-8")

    code, _, said = man_train(capsys, "promote", "--back", "--to", site)
    assert (code, said.count("\n")) == (1, 1)
    assert "no previous model" in said


def test_comparing_says_by_how_much_and_in_how_many_patients(
    held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worse, better = model_in(tmp_path / "worse", HU_OFF), model_in(tmp_path / "better")
    words = ("compare", worse, better, "--data", held_out, "--dose", 0.25, "--dose", 1)
    code, shown, _ = man_train(capsys, *words, "--json")
    assert code == 0
    found = {(part["dose"], part["figure"]): part for part in json.loads(shown)}
    bias = found[0.25, "HU off in soft tissue"]
    assert bias["first"] == pytest.approx(HU_OFF, abs=3)
    assert bias["difference"] == pytest.approx(bias["second"] - bias["first"])
    assert bias["interval"][0] <= bias["difference"] <= bias["interval"][1] < 0
    assert (bias["better"], bias["worse"]) == (PATIENTS, 0)
    assert found[0.25, PSNR.name]["second"] == pytest.approx(found[0.25, PSNR.name]["low_dose"])
    assert found[1.0, CHANGE.name]["second"] == pytest.approx(0, abs=0.01)
    assert (1.0, PSNR.name) not in found


def paired(first: list[float], second: list[float], *, figure=PSNR, kind: Kind = KIND) -> Paired:
    names = tuple(f"p{number}" for number in range(len(first)))
    return Paired(kind, figure, names, np.zeros(len(first)), np.array(first), np.array(second))


def test_no_worse_is_judged_by_the_mean_and_by_every_patient() -> None:
    assert faults([paired([30, 30, 30], [29.95, 30, 30])]) == []
    (mean,) = faults([paired([30, 30, 30], [29.8, 29.8, 29.8])])
    assert "0.2000 worse in the mean of 3 patients" in mean
    (one,) = faults([paired([30] * 4, [29.4, 31, 31, 31])])
    assert "worse in patient p0" in one
    assert faults([paired([0.1] * 3, [0.09] * 3, figure=LPIPS)]) == []
    assert len(faults([paired([0.1] * 3, [0.2] * 3, figure=LPIPS)])) == 4


def test_what_is_small_enough_is_not_held_against_a_model() -> None:
    bone = bias_in("bone")
    assert faults([paired([0.1] * 3, [0.9] * 3, figure=bone)]) == []
    assert len(faults([paired([0.1] * 3, [1.1] * 3, figure=bone)])) == 4
    assert faults([paired([3.0] * 3, [2.9] * 3, figure=bone)]) == []
    untouched = paired([0.0] * 3, [0.4] * 3, figure=CHANGE, kind=KIND._replace(dose=1.0))
    low_dose = paired([30.0] * 3, [30.0] * 3)
    assert faults([low_dose, untouched]) == []
    assert len(faults([low_dose, replace(untouched, second=np.array([0.6] * 3))])) == 4


def test_too_few_patients_decide_nothing(
    held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (fault,) = faults([paired([30, 30], [40, 40])])
    assert "too few" in fault
    low, site = tmp_path / "low", tmp_path / "site"
    make_series(low, 1, SIZE, patient_id="SECRET-0", study="0", noise_hu=40.0, seed=9)
    worse, better = model_in(tmp_path / "worse", HU_OFF), model_in(tmp_path / "better")
    words = ("promote", better, "--current", worse, "--to", site, "--data", low)
    code, shown, said = man_train(capsys, *words, "--full", held_out)
    assert code == 1
    assert "real dose 0.25" in shown
    assert "too few held-out patients to judge by: 1" in said, "full dose alone is not counted"


def test_a_model_that_changes_nothing_equals_itself() -> None:
    pair = paired([math.inf] * 3, [math.inf] * 3)
    assert pair.gain.tolist() == [0.0] * 3


def test_a_damaged_model_is_not_put_in_force(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    card = model_in(tmp_path / "model")
    version = site.keep(card)
    assert version == version_of(ModelCard.load(card)) == site.keep(card)
    weights = next((site.folder / version).glob("*.safetensors"))
    weights.write_bytes(b"torn")
    with pytest.raises(TrainingError, match="not those of their card"):
        site.put_in_force(version, {"action": "promote", "previous": None})
    assert site.version() is None


def test_a_torn_line_of_the_history_hides_no_other(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    version = site.keep(model_in(tmp_path / "model"))
    (site.folder / "history.jsonl").write_text('{"action": "promote", "vers', encoding="utf-8")
    site.put_in_force(version, {"action": "promote", "previous": "before"})
    assert [line["version"] for line in site.history()] == [version]
    assert site.earlier() == "before"


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["--to", "x"], 2, "Give MODEL"),
        (["man", "--to", "x", "--back"], 2, "takes neither MODEL"),
        (["--to", "x", "--back"], 1, "no previous model"),
        (["man", "--to", "x", "--data", "nowhere", "--current", "identity"], 1, "no card on disk"),
        (["unheard-of", "--to", "x", "--data", "nowhere"], 1, "no model named"),
    ],
)
def test_wrong_use_is_one_sentence(
    words: list[str],
    code: int,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    ended, shown, said = man_train(capsys, "promote", *words)
    assert (ended, said.count("\n"), shown) == (code, 1, "")
    assert reason in said
