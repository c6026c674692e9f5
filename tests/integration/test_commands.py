"""Every command from its words to its exit code; each error is one clear sentence."""

from __future__ import annotations

import hashlib
import json
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydicom import Dataset, dcmread
from pydicom.uid import MRImageStorage
from support.ct_factory import make_series, strip_preamble
from support.peers import Ports, node_settings, write_node

from dicom_node.cli import main
from dicom_node.demo.pacs import DemoPacs
from man_core.registry import IDENTITY


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one line of the error."""
        (line,) = self.err.strip().splitlines()
        assert "Traceback" not in line
        return line


Call = Callable[..., Ended]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*words: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["dicom-node", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return Ended(int(end.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_node(tmp_path / "node", node_settings(Ports()))


def changed(config: Path, **changes: Any) -> Path:
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), **changes}))
    return config


def denoise(call: Call, source: Path, out: Path) -> Ended:
    return call("denoise", source, out, "--model", "identity", "--device", "cpu")


def test_denoise_writes_derived_files_and_says_where(call: Call, tmp_path: Path) -> None:
    make_series(tmp_path / "in")
    ended = denoise(call, tmp_path / "in", tmp_path / "out")
    assert ended.code == 0, ended.err
    derived = sorted((tmp_path / "out").glob("*.dcm"))
    assert len(derived) == 4
    assert f"4 slices to {tmp_path / 'out'}" in ended.out
    assert "s per slice" in ended.out
    assert ended.out.endswith("guard: ok.\n")
    assert dcmread(derived[0]).ImageType[0] == "DERIVED"


def test_denoise_twice_gives_the_same_bytes(call: Call, tmp_path: Path) -> None:
    make_series(tmp_path / "in")
    denoise(call, tmp_path / "in", tmp_path / "out")
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert denoise(call, tmp_path / "in", tmp_path / "out").code == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == first


def test_bm3d_is_known_by_name_and_its_result_says_what_it_is_for(
    call: Call, tmp_path: Path
) -> None:
    make_series(tmp_path / "in")
    ended = call("denoise", tmp_path / "in", tmp_path / "out", "--model", "bm3d")
    assert ended.code == 0, ended.err
    for path in (tmp_path / "out").glob("*.dcm"):
        description = dcmread(path).DerivationDescription
        assert "model bm3d 1, " in description
        assert "for comparison with others, not for reading" in description


def test_denoise_never_touches_files_of_others(call: Call, tmp_path: Path) -> None:
    make_series(tmp_path / "in")
    (other,) = make_series(tmp_path / "out", slices=1)
    before = other.read_bytes()
    ended = denoise(call, tmp_path / "in", tmp_path / "out")
    assert ended.code == 2
    assert other.name in ended.sentence
    assert other.read_bytes() == before
    assert denoise(call, tmp_path / "in", tmp_path / "in").code == 2


def test_denoise_reports_as_json(call: Call, tmp_path: Path) -> None:
    make_series(tmp_path / "in")
    folders = (tmp_path / "in", tmp_path / "out")
    ended = call("denoise", *folders, "--model", "identity", "--strength", "0.5", "--json")
    (series,) = json.loads(ended.out)
    assert series["report"]["slices"] == 4
    assert series["report"]["strength"] == 0.5


def no_files(folder: Path) -> None:
    folder.mkdir()


def a_text_file(folder: Path) -> None:
    folder.mkdir()
    (folder / "text.dcm").write_text("This is no image.")


def a_cut_off_file(folder: Path) -> None:
    path = make_series(folder)[0]
    path.write_bytes(path.read_bytes()[:-3000])


def an_mr_series(folder: Path) -> None:
    def as_mr(dataset: Dataset) -> None:
        dataset.SOPClassUID, dataset.Modality = MRImageStorage, "MR"

    make_series(folder, change=as_mr)


def two_orientations(folder: Path) -> None:
    path = make_series(folder)[-1]
    dataset = dcmread(path)
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    dataset.save_as(path)


def a_slice_missing(folder: Path) -> None:
    make_series(folder, slices=6)[3].unlink()


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (no_files, "no DICOM file"),
        (a_text_file, "text.dcm"),
        (a_cut_off_file, "0001.dcm|Image 1"),
        (an_mr_series, "MR"),
        (two_orientations, "orientation"),
        (a_slice_missing, "missing|gap"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    call: Call, tmp_path: Path, trouble: Callable[[Path], None], words: str
) -> None:
    trouble(tmp_path / "in")
    before = {path: path.read_bytes() for path in (tmp_path / "in").iterdir()}
    ended = denoise(call, tmp_path / "in", tmp_path / "out")
    assert ended.code == 1
    assert any(word in ended.sentence for word in words.split("|")), ended.sentence
    assert not list(tmp_path.glob("out/*"))
    assert {path: path.read_bytes() for path in (tmp_path / "in").iterdir()} == before


def card_with(folder: Path, weights: bytes, *, promised: bytes) -> Path:
    folder.mkdir()
    (folder / "bad.safetensors").write_bytes(weights)
    card = replace(
        IDENTITY,
        name="bad",
        method="man",
        weights_file="bad.safetensors",
        weights_sha256=hashlib.sha256(promised).hexdigest(),
    )
    path = folder / "bad.json"
    path.write_text(card.to_json())
    return path


@pytest.mark.parametrize(
    ("weights", "promised"),
    [
        pytest.param(b"no weights" * 100, b"no weights" * 100, id="unreadable"),
        pytest.param(b"\x01" + bytes(999), bytes(1000), id="one byte changed"),
    ],
)
def test_bad_weights_are_one_sentence(
    call: Call, tmp_path: Path, weights: bytes, promised: bytes
) -> None:
    make_series(tmp_path / "in")
    card = card_with(tmp_path / "models", weights, promised=promised)
    ended = call("denoise", tmp_path / "in", tmp_path / "out", "--model", card)
    assert ended.code == 2
    assert "bad" in ended.sentence
    assert not (tmp_path / "out").exists()


def test_an_unknown_model_is_one_sentence(call: Call, tmp_path: Path) -> None:
    make_series(tmp_path / "in")
    ended = call("denoise", tmp_path / "in", tmp_path / "out", "--model", "nobody")
    assert ended.code == 2
    assert "nobody" in ended.sentence


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--device", "foo"), "no device named 'foo'"),
        (("--device", "cuda:77"), "'cuda:77' is not present"),
        (("--steps", "7"), "Model identity does not sample: omit --steps."),
        (("--source-ae", "CT1"), "--source-ae is for rules: give their file with -c."),
    ],
)
def test_an_option_without_effect_is_refused(
    call: Call, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    make_series(tmp_path / "in")
    ended = call("denoise", tmp_path / "in", tmp_path / "out", "--model", "identity", *words)
    assert ended.code == 2
    assert said in ended.sentence
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["start", "receive", "status", "check", "jobs"])
def test_a_wrong_key_stops_every_command(call: Call, config: Path, command: str) -> None:
    ended = call(command, "-c", changed(config, prots=[]))
    assert ended.code == 2
    assert "prots" in ended.sentence


def test_a_missing_configuration_says_what_to_do(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = call("status")
    assert ended.code == 2
    assert "dicom-node init" in ended.sentence


def test_init_writes_a_configuration_that_is_valid_and_leaves_others_alone(
    call: Call, tmp_path: Path
) -> None:
    assert call("init", tmp_path / "site").code == 0
    written = (tmp_path / "site" / "node.yaml").read_text()
    ended = call("status", "-c", tmp_path / "site" / "node.yaml", "--json")
    assert ended.code == 0, ended.err
    assert call("init", tmp_path / "site").code == 2
    assert (tmp_path / "site" / "node.yaml").read_text() == written


def test_check_gives_a_verdict_each(call: Call, config: Path, tmp_path: Path) -> None:
    with DemoPacs("LOOPPACS", tmp_path / "pacs") as pacs:
        peer = {"name": "pacs", "ae_title": "LOOPPACS", "host": pacs.host, "port": pacs.port}
        ended = call("check", "-c", changed(config, peers=[peer]), "--json")
    verdicts = {item["what"]: item["verdict"] for item in json.loads(ended.out)}
    assert ended.code == 0, ended.out
    assert set(verdicts.values()) == {"ok"}
    assert {"configuration", "database", "disk", "model", "port", "peer pacs"} <= set(verdicts)


@pytest.mark.filterwarnings("ignore")  # pynetdicom leaves the closing of its socket to Python
def test_check_names_what_fails(call: Call, config: Path) -> None:
    ended = call("check", "-c", changed(config, model={"name": "nobody"}), "--json")
    verdicts = {item["what"]: item["verdict"] for item in json.loads(ended.out)}
    assert ended.code == 1
    assert verdicts["model"] == verdicts["peer pacs"] == "failed"
    assert verdicts["database"] == "ok"


def test_a_port_in_use_is_one_sentence(call: Call, config: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        changed(config, listen={"host": "127.0.0.1", "port": port})
        ended = call("receive", "-c", config)
    assert ended.code == 2
    assert f"Port {port} on 127.0.0.1 is in use" in ended.err
    assert "Traceback" not in ended.err


def test_echo_and_send(call: Call, config: Path, tmp_path: Path) -> None:
    files = make_series(tmp_path / "in")
    (tmp_path / "in" / "readme.txt").write_text("not an image")
    with DemoPacs("LOOPPACS", tmp_path / "pacs") as pacs:
        peer = {"name": "pacs", "ae_title": "LOOPPACS", "host": pacs.host, "port": pacs.port}
        changed(config, peers=[peer])
        assert json.loads(call("echo", "pacs", "-c", config, "--json").out)["answered"] is True
        ended = call("send", "pacs", tmp_path / "in", "-c", config, "--json")
    sent = json.loads(ended.out)
    assert (sent["stored"], sent["failed"], sent["skipped"]) == (len(files), 0, 1)
    assert len(list((tmp_path / "pacs").iterdir())) == len(files)


@pytest.mark.parametrize("meta", [True, False])
def test_files_without_preamble_are_sent(
    call: Call, config: Path, tmp_path: Path, meta: bool
) -> None:
    files = make_series(tmp_path / "in")
    sent = {dcmread(path).SOPInstanceUID: path.read_bytes() for path in files}
    for path in files:
        strip_preamble(path, meta=meta)
    with DemoPacs("LOOPPACS", tmp_path / "pacs") as pacs:
        peer = {"name": "pacs", "ae_title": "LOOPPACS", "host": pacs.host, "port": pacs.port}
        ended = call("send", "pacs", tmp_path / "in", "-c", changed(config, peers=[peer]), "--json")
    told = json.loads(ended.out)
    assert (told["stored"], told["failed"], told["skipped"]) == (len(files), 0, 0)
    assert {one["file"] for one in told["files"]} == {path.name for path in files}
    for path in (tmp_path / "pacs").iterdir():
        dataset = dcmread(path)
        data = dataset.PixelData
        assert dcmread(BytesIO(sent[dataset.SOPInstanceUID])).PixelData == data


@pytest.mark.filterwarnings("ignore")  # pynetdicom leaves the closing of its socket to Python
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("echo", "nobody"), 2, "nobody"),
        (("echo", "pacs"), 1, "No connection"),
        (("send", "pacs", "nowhere"), 2, "no file or folder nowhere"),
        (("rules", "test", "nowhere"), 2, "no file or folder nowhere"),
        (("denoise", "nowhere", "out"), 2, "no file or folder nowhere"),
        (("jobs", "show", "7"), 1, "no job 7"),
        (("jobs", "retry", "7"), 1, "no job 7"),
        (("jobs", "cancel", "7"), 1, "no job 7"),
    ],
)
def test_what_is_not_there_is_one_sentence(
    call: Call, config: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    ended = call(*words, "-c", config)
    assert ended.code == code
    assert said in ended.sentence


def test_status_and_jobs_of_an_empty_ledger(call: Call, config: Path) -> None:
    status = json.loads(call("status", "-c", config, "--json").out)
    assert set(status["jobs"].values()) == set(status["series"].values()) == {0}
    assert json.loads(call("jobs", "list", "-c", config, "--json").out) == []
    assert call("jobs", "-c", config).code == 0


def test_models_lists_cards(call: Call) -> None:
    cards = json.loads(call("models", "--json").out)
    assert "identity" in {card["name"] for card in cards}
    assert "Testing the line" in call("models", "identity").out
    assert call("models", "nobody").code == 2


def test_an_unexpected_error_is_one_sentence_without_its_text(
    call: Call, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_url: str) -> None:
        raise ZeroDivisionError("DOE^JANE")

    monkeypatch.setattr("dicom_node.cli.status.open_ledger", broken)
    ended = call("status", "-c", config)
    assert ended.code == 1
    assert "unexpected ZeroDivisionError" in ended.sentence
    assert "DOE" not in ended.err


def test_wrong_use_is_code_2(call: Call) -> None:
    assert call("denoise").code == 2
    assert call("nonsense").code == 2
