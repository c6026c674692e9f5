"""Whatever is handed to the commands: one clear sentence, the right exit code, nothing lost."""

from __future__ import annotations

import hashlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ct_factory import make_series
from peers import Ports, node_settings, run_command, write_node
from pydicom import Dataset
from pydicom.uid import MRImageStorage

from man_core import ModelCard
from man_core.weights import save_weights

FAILED, WRONG_USE = 1, 2
MOST_SENTENCES = 2
"""One for what is wrong; a slice that cannot be read also leaves a gap in its series."""
LONGEST_SENTENCE = 400


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Where each test puts its bad input."""
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """The command ended with this code and said why in sentences that hold these words."""
    said = done.stderr.strip().splitlines()
    assert done.returncode == code, done.stderr
    assert said, "nothing was said"
    assert len(said) <= MOST_SENTENCES, done.stderr
    assert max(map(len, said)) < LONGEST_SENTENCE, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    for word in words:
        assert word.lower() in done.stderr.lower()


def denoise_is_refused(source: Path, *words: str) -> None:
    """Offline denoising fails, leaves the source as it was and writes nothing half done."""
    before, out = contents(source), source.parent / "out"
    refused(run_command("denoise", source, out, "--model", "identity"), FAILED, *words)
    assert contents(source) == before
    assert contents(out) == {}


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_an_empty_folder(source: Path) -> None:
    denoise_is_refused(source, "no DICOM file")


def test_a_folder_that_is_not_there(source: Path) -> None:
    denoise_is_refused(source / "elsewhere", "elsewhere")


def test_a_text_file_named_dcm(source: Path) -> None:
    (source / "notes.dcm").write_text("These are my notes.\n")
    denoise_is_refused(source, "notes.dcm")


def test_nothing_but_an_mr_series(source: Path) -> None:
    make_series(source, modality="MR", change=as_mr)
    denoise_is_refused(source, "MR")


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
    assert "Traceback" not in mixed.stderr


@pytest.mark.parametrize("command", ["check", "start", "status"])
def test_a_wrong_key(tmp_path: Path, command: str) -> None:
    config = write_node(tmp_path, node_settings(Ports(), ae_titel="DENOISE"))
    refused(run_command(command, "-c", config), WRONG_USE, "ae_titel", "did you mean 'ae_title'")


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    refused(run_command("start", "-c", tmp_path / "none.yaml"), WRONG_USE, "none.yaml", "init")


def test_no_configuration_is_overwritten(tmp_path: Path) -> None:
    assert run_command("init", tmp_path).returncode == 0
    before = contents(tmp_path)
    refused(run_command("init", tmp_path), WRONG_USE, "node.yaml")
    assert contents(tmp_path) == before


def test_a_port_in_use_by_another_program(tmp_path: Path, busy_port: int) -> None:
    settings = node_settings(Ports(), listen={"host": "127.0.0.1", "port": busy_port})
    config = write_node(tmp_path, settings)
    refused(run_command("receive", "-c", config), WRONG_USE, str(busy_port))


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """A model card whose weights file is whole and is the card's."""
    weights = tmp_path / "model" / "site.safetensors"
    weights.parent.mkdir()
    sha256 = save_weights(weights, {"scale": torch.ones(4)}, {"kind": "test"})
    return written_card(weights, sha256)


def written_card(weights: Path, sha256: str) -> Path:
    card = ModelCard(
        name="site", version="1", method="man", summary="A test.",
        weights_file=weights.name, weights_sha256=sha256,
    )  # fmt: skip
    path = weights.with_name("site.json")
    path.write_text(card.to_json())
    return path


def model_is_refused(card: Path, *words: str) -> None:
    folder = card.parents[1]
    make_series(folder / "in")
    done = run_command("denoise", folder / "in", folder / "out", "--model", card)
    assert done.returncode in (FAILED, WRONG_USE)
    refused(done, done.returncode, *words)
    assert contents(folder / "out") == {}


def test_weights_with_one_byte_changed(card: Path) -> None:
    weights = card.with_suffix(".safetensors")
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    model_is_refused(card, "site.safetensors", "sha256")


def test_weights_that_are_not_there(card: Path) -> None:
    card.with_suffix(".safetensors").unlink()
    model_is_refused(card, "site.safetensors", "cannot be read")


def test_weights_that_are_no_weights(card: Path) -> None:
    weights = card.with_suffix(".safetensors")
    weights.write_text("These are my notes.\n")
    written_card(weights, hashlib.sha256(weights.read_bytes()).hexdigest())
    model_is_refused(card, "site.safetensors", "cannot be read")


def test_a_card_that_is_no_card(card: Path) -> None:
    card.write_text("{")
    model_is_refused(card, "site.json")


def test_a_model_that_nobody_knows(source: Path) -> None:
    make_series(source)
    done = run_command("denoise", source, source.parent / "out", "--model", "wizard")
    refused(done, WRONG_USE, "wizard", "identity")
