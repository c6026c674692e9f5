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


def test_a_truncated_file(source: Path) -> None:
    paths = make_series(source)
    paths[1].write_bytes(paths[1].read_bytes()[:-2000])
    denoise_is_refused(source, paths[1].name)


def test_a_file_cut_off_within_its_header(source: Path) -> None:
    paths = make_series(source)
    paths[1].write_bytes(paths[1].read_bytes()[:300])
    denoise_is_refused(source, paths[1].name)


def test_an_mr_series(source: Path) -> None:
    def as_mr(dataset: Dataset) -> None:
        dataset.SOPClassUID = MRImageStorage

    make_series(source, modality="MR", change=as_mr)
    denoise_is_refused(source, "MR")


def test_two_orientations_in_one_series(source: Path) -> None:
    def turn_later_slices(dataset: Dataset) -> None:
        if dataset.InstanceNumber > 2:
            dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]

    make_series(source, change=turn_later_slices)
    denoise_is_refused(source, "orientation")


def test_a_slice_missing_in_the_middle(source: Path) -> None:
    make_series(source, slices=6)[3].unlink()
    denoise_is_refused(source, "missing")


def test_a_localizer(source: Path) -> None:
    make_series(source, slices=1, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    denoise_is_refused(source, "localizer")


def test_a_good_series_beside_a_bad_file_is_still_denoised(source: Path) -> None:
    make_series(source / "good")
    make_series(source / "cut", study="other")[0].write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 9)
    out = source.parent / "out"
    done = run_command("denoise", source / "good", out, "--model", "identity")
    assert (done.returncode, len(list(out.rglob("*.dcm")))) == (0, 4)


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
