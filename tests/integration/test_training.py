"""`man-train` from DICOM to weights that the node loads: tiny recipes, the whole way."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.commands import man_train
from support.ct_factory import make_series

from man_core import Condition, ModelCard, denoise_volume, load_denoiser
from man_core.volume import Volume
from man_core.weights import load_weights, save_weights
from training.promotion.rule import MIN_PATIENTS

SIZE = 64
KILL_DEADLINE_SECONDS = 240.0  # a busy machine takes its time to import torch


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients for fitting, three held out, prepared from DICOM and simulated."""
    folder = tmp_path_factory.mktemp("training")
    for number, split in enumerate(("train", "train", *["validation"] * MIN_PATIENTS)):
        source = folder / f"patient-{number}"
        slices = 2 if split == "train" else 1
        name = f"SECRET-{number}"
        make_series(source, slices, SIZE, patient_id=name, study=str(number), seed=number)
        assert man_train("prepare", source, "--assign", split, "--out", folder / "set") == 0
    assert man_train("simulate", folder / "set", "--processes", 1) == 0
    return folder / "set"


@pytest.fixture(scope="module")
def autoencoder(training_set: Path) -> Path:
    run = training_set.parent / "autoencoder"
    arguments = ("man-autoencoder-tiny", "--data", training_set, "--out", run, "--threads", 1)
    assert man_train("fit", *arguments) == 0
    return run


@pytest.fixture(scope="module")
def diffusion(training_set: Path, autoencoder: Path) -> Path:
    """A run that was killed without warning and then resumed."""
    run = training_set.parent / "diffusion"
    command = [sys.executable, "-m", "training.cli", "fit", "man-diffusion-tiny"]
    options = ["--data", training_set, "--out", run, "--init", autoencoder, "--steps", 100_000]
    options += ["--threads", 1]
    process = subprocess.Popen([*command, *map(str, options)], stderr=subprocess.DEVNULL)
    try:
        kill_after_a_checkpoint(process, run)
    finally:
        process.kill()
        process.wait()
    steps = newest_step(run) + 10
    arguments = ("man-diffusion-tiny", "--data", training_set, "--out", run, "--threads", 1)
    assert man_train("fit", *arguments, "--resume", "--steps", steps) == 0
    assert newest_step(run) == steps
    return run


def kill_after_a_checkpoint(process: subprocess.Popen[bytes], run: Path) -> None:
    deadline = time.monotonic() + KILL_DEADLINE_SECONDS
    while newest_step(run) < 3:
        assert process.poll() is None, "the fit ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint in time"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def newest_step(run: Path) -> int:
    return max((int(path.stem) for path in (run / "checkpoints").glob("*.pt")), default=0)


def test_a_set_holds_no_identifier(training_set: Path) -> None:
    text = (training_set / "manifest.json").read_text(encoding="utf-8")
    assert "SECRET" not in text
    assert "PHANTOM" not in text
    assert json.loads(text)["series"][0]["slices"][0]["noise_hu"] > 0


def test_a_fit_journals_and_draws(autoencoder: Path) -> None:
    lines = (autoencoder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    assert {line["kind"] for line in found} == {"fit", "validation"}
    assert all(np.isfinite(line["loss"]) for line in found if line["kind"] == "fit")
    assert list((autoencoder / "pictures").glob("*.png"))
    assert len(list((autoencoder / "checkpoints").glob("*"))) == 2


def test_a_killed_fit_resumes_and_its_weights_denoise(diffusion: Path, tmp_path: Path) -> None:
    assert man_train("export", diffusion, "--out", tmp_path, "--name", "own") == 0
    denoiser = load_denoiser(str(tmp_path / "own.json"), device="cpu", steps=2)
    hu = np.random.default_rng(0).normal(40, 30, (2, SIZE, SIZE)).astype(np.float32)
    volume = Volume(hu, (1.0, 0.7, 0.7), np.eye(4))
    result, report = denoise_volume(volume, denoiser, Condition(), seed=1)
    assert result.shape == volume.shape
    assert np.isfinite(result.hu).all()
    assert report.slices == 2


def test_evaluation_includes_the_low_dose(
    diffusion: Path, training_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = (
        "--data",
        training_set,
        "--steps",
        1,
        "--slices",
        1,
        "--gaussian",
        "--ceiling",
        "--json",
    )
    assert man_train("evaluate", diffusion, *options) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["row"] for row in rows] == [
        "low dose",
        "best Gaussian",
        "man",
        "man ceiling",
    ]
    assert rows[1]["psnr_db"] > rows[0]["psnr_db"]
    assert rows[2]["weights_sha256"]
    assert all(row["split"] == "validation" and row["dose"] == 0.25 for row in rows)


def test_only_a_model_that_is_no_worse_is_promoted(
    diffusion: Path, training_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site, exported = tmp_path / "site", tmp_path / "exported"
    assert man_train("export", diffusion, "--out", exported, "--name", "own") == 0
    words = ("--data", training_set, "--to", site, "--dose", 0.25, "--device", "cpu")
    bad = spoiled(exported, tmp_path / "spoiled")
    assert man_train("promote", bad, *words) == 1
    assert "refused" in capsys.readouterr().err, "today's is the shipped model"
    assert not site.exists()

    assert man_train("promote", exported, *words, "--current", bad) == 0
    in_force = load_denoiser(str(site / "model.json"), device="cpu").info
    assert in_force.digest == ModelCard.load(exported / "own.json").digest
    assert man_train("promote", "--back", "--to", site) == 0
    assert ModelCard.load(site / "model.json").digest == ModelCard.load(bad / "spoiled.json").digest


def spoiled(exported: Path, folder: Path) -> Path:
    """The same model with an autoencoder that was shaken until every slice is a mess."""
    card = ModelCard.load(exported / "own.json")
    config, tensors = load_weights(exported / card.weights_file, card.weights_sha256)
    folder.mkdir()
    torch.manual_seed(0)
    shaken = {
        name: values + torch.randn_like(values) if name.startswith("autoencoder") else values
        for name, values in tensors.items()
    }
    sha256 = save_weights(folder / card.weights_file, shaken, config)
    text = replace(card, name="spoiled", weights_sha256=sha256).to_json()
    (folder / "spoiled.json").write_text(text, encoding="utf-8")
    return folder
