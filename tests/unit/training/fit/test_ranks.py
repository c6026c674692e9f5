"""Fitting in several processes, started as a physicist starts them: by ``torchrun``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from training.data.dataset import CropSource
from training.fit.loop import Fit
from training.fit.schedule import Budget
from training.fit.state import load_state
from training.fit.tasks.build import build_task
from training.settings import Recipe, load_recipe

RECIPE = "man-autoencoder-tiny"
ENDLESS = 1_000_000
ROUNDING_SHARE = 0.02
"""Most that sums in another order may move the weights, as a share of how far the fit moved them.
Measured: 0 with as many threads on both sides; above 0.9 with other batches a step."""
DEADLINE_SECONDS = 240.0  # a busy machine takes its time to import torch twice


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many threads as each rank has: others sum in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def torchrun(*arguments: object) -> subprocess.Popen[bytes]:
    """Two processes on this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    words = [*command, 2, "-m", "training.cli", "fit", RECIPE, "--threads", 1, *arguments]
    return subprocess.Popen(
        [str(word) for word in words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def test_two_ranks_fit_as_one_that_accumulates_and_stop_together(
    small_set: Path, tmp_path: Path, one_thread: None
) -> None:
    run = tmp_path / "two"
    process = torchrun("--data", small_set, "--out", run, "--steps", ENDLESS)
    try:
        wait_for_a_checkpoint(process, run)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=DEADLINE_SECONDS)
    finally:
        process.kill()
        process.wait()
    assert process.returncode != 0
    assert said.decode().count("stopped early (continue with --resume)") == 1

    ended = state_of(run)
    begun, alone = accumulated(small_set, tmp_path / "one", ended["step"])
    moved, apart = (
        flat(alone["averaged"]) - begun,
        flat(ended["averaged"]) - flat(alone["averaged"]),
    )
    assert float(apart.norm() / moved.norm()) < ROUNDING_SHARE

    assert "2 × 1 threads" in json.loads((run / "facts.json").read_text("utf-8"))["hardware"]
    lines = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if line["kind"] == "fit"]
    assert steps == sorted(set(steps)), "one rank alone keeps the journal"


def accumulated(data: Path, run: Path, steps: int) -> tuple[Tensor, dict[str, Any]]:
    """The same batches in this process alone, two to a step, with the same learning rates.

    Returns:
        The weights before the first step, and the state after the last.
    """
    recipe = load_recipe(RECIPE)
    changes = {"steps": ENDLESS, "accumulate": 2}
    changed = recipe.model_dump() | {"fit": recipe.fit.model_dump() | changes}
    recipe = Recipe.model_validate(changed)
    run.mkdir()
    source = CropSource(data, recipe.data, recipe.seed, "train")
    fit = Fit(recipe, build_task(recipe, torch.device("cpu")), run, Budget(ENDLESS), source, [])
    fit.start()
    begun = flat(fit.task.state_dict())
    fit.train(None, lambda step, _progress, _scalars: fit.stop() if step == steps else None)
    return begun, state_of(run)


def flat(weights: Mapping[str, Any]) -> Tensor:
    """All numbers of the autoencoder in one row."""
    return torch.cat([values.flatten().clone() for values in weights["autoencoder"].values()])


def state_of(run: Path) -> dict[str, Any]:
    state = load_state(run)
    assert state is not None
    return state


def wait_for_a_checkpoint(process: subprocess.Popen[bytes], run: Path) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while max((int(path.stem) for path in (run / "checkpoints").glob("*.pt")), default=0) < 1:
        assert process.poll() is None, "the fit ended by itself"
        assert time.monotonic() < deadline, "no checkpoint in time"
        time.sleep(0.05)
