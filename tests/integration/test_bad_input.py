"""Bad input as an operator meets it: whole folders and damaged models, through real processes.

Each command's own errors are tested in ``test_commands.py``, inside the test's process; here it is
shown that nothing else (a warning of a library, a traceback) reaches the operator, that one bad
series does not stop the others, and that nothing is lost.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydicom import Dataset
from pydicom.uid import MRImageStorage
from support.ct_factory import make_series
from support.peers import run_command

from man_core import ModelCard
from man_core.weights import save_weights

FAILED, WRONG_USE = 1, 2
LONGEST_SENTENCE = 400


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def as_mr(dataset: Dataset) -> None:
    dataset.SOPClassUID = MRImageStorage


def turn_later_slices(dataset: Dataset) -> None:
    if dataset.InstanceNumber > 2:
        dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def bad_and_good_series(folder: Path) -> None:
    """A folder of what may come from a medium, one good series among it."""
    make_series(folder / "good")
    cut = make_series(folder / "truncated", series_number=2)[1]
    cut.write_bytes(cut.read_bytes()[:-2000])
    stub = make_series(folder / "stub", series_number=3)[0].rename(folder / "stub" / "stub.dcm")
    stub.write_bytes(stub.read_bytes()[:300])
    make_series(folder / "mr", series_number=4, modality="MR", change=as_mr)
    make_series(folder / "turned", series_number=5, change=turn_later_slices)
    make_series(folder / "gap", 6, series_number=6)[3].unlink()
    localizer = ("ORIGINAL", "PRIMARY", "LOCALIZER")
    make_series(folder / "scout", 1, series_number=7, image_type=localizer)
    (folder / "notes.dcm").write_text("These are my notes.\n")
    (folder / "readme.txt").write_text("From the archive.\n")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """`dicom-node denoise` on such a folder; it leaves the input as it was."""
    source = tmp_path_factory.mktemp("mixed") / "in"
    bad_and_good_series(source)
    before = contents(source)
    done = run_command("denoise", source, source.parent / "out", "--model", "identity")
    assert contents(source) == before
    assert {Path(name).parts[0] for name in contents(source.parent / "out")} == {"good", "stub"}
    return done


@pytest.mark.parametrize(
    ("begins", "words"),
    [
        ("truncated/", "0002.dcm"),
        ("stub.dcm", "cut off"),
        ("notes.dcm", "DICOM"),
        ("mr/", "MR"),
        ("turned/", "orientation"),
        ("gap/", "missing"),
        ("scout/", "localizer"),
    ],
)
def test_each_bad_series_says_why(
    mixed: subprocess.CompletedProcess[str], begins: str, words: str
) -> None:
    told = [line for line in mixed.stderr.splitlines() if line.startswith(begins)]
    assert len(told) == 1, mixed.stderr
    assert words in told[0]
    assert len(told[0]) < LONGEST_SENTENCE


def test_one_bad_series_does_not_stop_the_others(
    mixed: subprocess.CompletedProcess[str],
) -> None:
    assert mixed.returncode == FAILED
    assert "good/" in mixed.stdout
    assert len(mixed.stderr.splitlines()) == 7, mixed.stderr


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """A model card whose weights file is whole and is the card's."""
    weights = tmp_path / "model" / "site.safetensors"
    weights.parent.mkdir()
    card = ModelCard(
        name="site", version="1", method="man", summary="A test.", weights_file=weights.name,
        weights_sha256=save_weights(weights, {"scale": torch.ones(4)}, {"kind": "test"}),
    )  # fmt: skip
    path = weights.with_name("site.json")
    path.write_text(card.to_json())
    return path


def one_byte_changed(card: Path) -> None:
    weights = card.with_suffix(".safetensors")
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)


def weights_not_there(card: Path) -> None:
    card.with_suffix(".safetensors").unlink()


def no_card(card: Path) -> None:
    card.write_text("{")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (one_byte_changed, ("site.safetensors", "sha256")),
        (weights_not_there, ("site.safetensors", "cannot be read")),
        (no_card, ("site.json", "cannot be read")),
    ],
)
def test_a_damaged_model_is_refused(
    card: Path, damage: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    damage(card)
    folder = card.parents[1]
    make_series(folder / "in")
    done = run_command("denoise", folder / "in", folder / "out", "--model", card)
    (sentence,) = done.stderr.splitlines()
    assert done.returncode == WRONG_USE
    assert all(word in sentence for word in words), sentence
    assert len(sentence) < LONGEST_SENTENCE
    assert not (folder / "out").exists()
