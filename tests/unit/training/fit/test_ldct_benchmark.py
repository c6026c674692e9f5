"""Networks of ldct-benchmark: imported with the right HU, and nothing else is let in.

The published files need a download; these have the same keys and shapes, and random values.
"""

from __future__ import annotations

import json
import zipfile
from argparse import Namespace
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from support.commands import man_train
from torch import Tensor
from torch.nn import functional

from man_core import Condition, ModelCard, load_denoiser
from training.fit import checkpoint_file
from training.fit.ldct_benchmark import PUBLISHED

MEAN, DEVIATION = 481.45419786099086, 502.18507379395044
"""Of the benchmark's stored values, HU + 1024."""

State = dict[str, Tensor]
Reference = Callable[[State, Tensor], Tensor]


def weights(*shape: int) -> Tensor:
    """Draw weights that do not enlarge what passes through them, transposed or not."""
    inputs = max(shape[:2]) * shape[2] * shape[3]
    return torch.randn(shape) * (1.3 / inputs) ** 0.5


def convolution(name: str, *shape: int, transposed: bool = False) -> State:
    outputs = shape[1] if transposed else shape[0]
    return {f"{name}.weight": weights(*shape), f"{name}.bias": torch.randn(outputs) * 0.05}


def apply(state: State, name: str, x: Tensor, **options: int) -> Tensor:
    return functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)


def red_cnn_state() -> State:
    state = convolution("conv1", 96, 1, 5, 5)
    for number in range(2, 6):
        state |= convolution(f"conv{number}", 96, 96, 5, 5)
    for number in range(1, 5):
        state |= convolution(f"tconv{number}", 96, 96, 5, 5, transposed=True)
    return state | convolution("tconv5", 96, 1, 5, 5, transposed=True)


def red_cnn(state: State, x: Tensor) -> Tensor:
    def up(number: int, y: Tensor) -> Tensor:
        named = f"tconv{number}"
        return functional.conv_transpose2d(y, state[f"{named}.weight"], state[f"{named}.bias"])

    second = apply(state, "conv2", apply(state, "conv1", x).relu()).relu()
    fourth = apply(state, "conv4", apply(state, "conv3", second).relu()).relu()
    out = up(1, apply(state, "conv5", fourth).relu()) + fourth
    out = up(3, up(2, out.relu()).relu()) + second
    return up(5, up(4, out.relu()).relu()) + x


def cnn10_state() -> State:
    layers = [(64, 1, 9, 9), (32, 64, 3, 3), (1, 32, 5, 5)]
    found: State = {}
    for number, shape in zip((0, 2, 4), layers, strict=True):
        found |= convolution(f"layers.{number}", *shape)
    return found


def cnn10(state: State, x: Tensor) -> Tensor:
    x = apply(state, "layers.0", x, padding=4).relu()
    return apply(state, "layers.4", apply(state, "layers.2", x, padding=1).relu(), padding=2)


def resnet_state() -> State:
    state = convolution("in_conv", 128, 1, 9, 9) | convolution("out_conv", 1, 128, 3, 3)
    for number in range(10):
        layers = f"blocks.{number}.layers"
        state |= convolution(f"{layers}.0", 128, 128, 3, 3)
        state |= convolution(f"{layers}.3", 128, 16, 3, 3) | convolution(
            f"{layers}.6", 128, 128, 1, 1
        )
        for norm in (1, 4):
            state |= {
                f"{layers}.{norm}.weight": torch.rand(128) + 0.5,
                f"{layers}.{norm}.bias": torch.randn(128) * 0.1,
                f"{layers}.{norm}.running_mean": torch.randn(128) * 0.1,
                f"{layers}.{norm}.running_var": torch.rand(128) + 0.5,
                f"{layers}.{norm}.num_batches_tracked": torch.tensor(20_000),
            }
    return state


def resnet(state: State, x: Tensor) -> Tensor:
    def normed(name: str, y: Tensor) -> Tensor:
        parts = (state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(y, *parts).relu()

    hidden = apply(state, "in_conv", x, padding=4)
    for number in range(10):
        layers = f"blocks.{number}.layers"
        inner = normed(f"{layers}.1", apply(state, f"{layers}.0", hidden, padding=1))
        inner = normed(f"{layers}.4", apply(state, f"{layers}.3", inner, padding=1, groups=8))
        hidden = apply(state, f"{layers}.6", inner) + hidden
    return x - apply(state, "out_conv", hidden, padding=1)


def qae_state() -> State:
    maps = [1, 15, 15, 15, 15, 15]
    state: State = {}
    for part, counts in (("encoder", maps), ("decoder", maps[::-1])):
        for number, (into, out) in enumerate(pairwise(counts)):
            shape = (out, into, 3, 3) if part == "encoder" else (into, out, 3, 3)
            layer = f"{part}.{number}"
            state |= {f"{layer}.W_r": weights(*shape) * 1.3, f"{layer}.b_r": torch.zeros(out)}
            state |= {f"{layer}.W_g": weights(*shape) * 0.1, f"{layer}.b_g": torch.ones(out)}
            state |= {f"{layer}.W_b": weights(*shape) * 0.1}
            state |= {f"{layer}.b_b": torch.randn(out) * 0.1}
    return state


def qae(state: State, x: Tensor) -> Tensor:
    def quadratic(layer: str, y: Tensor, padding: int) -> Tensor:
        apply = functional.conv2d if layer.startswith("encoder") else functional.conv_transpose2d
        pairs = (("W_r", "b_r", y), ("W_g", "b_g", y), ("W_b", "b_b", y * y))
        first, second, third = (
            apply(values, state[f"{layer}.{w}"], state[f"{layer}.{b}"], padding=padding)
            for w, b, values in pairs
        )
        return first * second + third

    outputs = [x]
    for number in range(5):
        layer = f"encoder.{number}"
        outputs.append(quadratic(layer, outputs[-1], int(number < 4)).relu())
    y = (quadratic("decoder.0", outputs[5], 0) + outputs[4]).relu()
    y = quadratic("decoder.1", y, 1).relu()
    y = (quadratic("decoder.2", y, 1) + outputs[2]).relu()
    return quadratic("decoder.4", quadratic("decoder.3", y, 1).relu(), 1) + x


def wgan_vgg_state() -> State:
    state: State = {}
    for number, (into, out) in enumerate(pairwise([1] + [32] * 7 + [1])):
        state |= convolution(f"net.{2 * number}", out, into, 3, 3)
    return state


def wgan_vgg(state: State, x: Tensor) -> Tensor:
    for number in range(7):
        x = apply(state, f"net.{2 * number}", x, padding=1).relu()
    return apply(state, "net.14", x, padding=1)


NETWORKS: dict[str, tuple[Callable[[], State], Reference, str, int]] = {
    "redcnn": (red_cnn_state, red_cnn, "redcnn", 1_848_865),
    "dugan": (red_cnn_state, red_cnn, "redcnn", 1_848_865),
    "cnn10": (cnn10_state, cnn10, "cnn10", 24_513),
    "resnet": (resnet_state, resnet, "resnet", 1_843_329),
    "qae": (qae_state, qae, "qae", 49_818),
    "wganvgg": (wgan_vgg_state, wgan_vgg, "wgan-vgg", 56_097),
}
"""State, reference, method of our card, and published number of values."""


def publish(path: Path, state: State, **arguments: object) -> Path:
    """Write a file as the benchmark does."""
    said = Namespace(lr=1e-4, devices=[0], mbs=64, **arguments)
    torch.save({"args": said, "iteration": 7, "model_state_dict": state}, path)
    return path


def imported(file: Path, *options: object) -> int:
    out = file.parent / "models"
    return man_train("import", "ldct-benchmark", file, "--out", out, *options)


def card_at(file: Path, name: str) -> Path:
    return file.parent / "models" / f"{name}.json"


def test_every_network_that_can_be_imported_is_tested_here() -> None:
    assert NETWORKS.keys() == PUBLISHED.keys()


@pytest.mark.parametrize("method", NETWORKS)
def test_an_imported_network_does_what_the_published_one_does(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    build, reference, own_method, parameters = NETWORKS[method]
    state = build()
    file = publish(tmp_path / "file.pt", state, trainer=method, data_norm="meanstd")
    assert imported(file, "--json") == 0
    card = ModelCard.load(Path(json.loads(capsys.readouterr().out)["card"]))
    assert (card.name, card.method) == (f"ldctbench-{method}", own_method)
    assert (card.for_comparison, card.parameters) == (True, parameters)
    hu = (torch.randn(2, 64, 60) * 300 + 40).clip(-1024, 3072)
    with torch.no_grad():
        output = reference(state, (hu[:, None] + 1024 - MEAN) / DEVIATION)
    wanted = (output * DEVIATION + MEAN - 1024)[:, 0]
    found = load_denoiser(str(card_at(file, card.name)), device="cpu").denoise(
        hu, Condition(), torch.Generator()
    )
    inner = (slice(None), slice(21, -21), slice(21, -21))  # RED-CNN sees other pixels at the edge
    assert 10 < float((wanted - hu)[inner].std()) < 3000
    assert torch.allclose(found[inner], wanted[inner], atol=0.02)


def test_a_network_without_an_answer_gives_the_mean_of_the_data_not_20_hu_more(
    tmp_path: Path,
) -> None:
    silent = {name: torch.zeros_like(tensor) for name, tensor in cnn10_state().items()}
    file = publish(tmp_path / "cnn10.pt", silent, trainer="cnn10")
    assert imported(file, "--name", "silent") == 0
    denoiser = load_denoiser(str(card_at(file, "silent")), device="cpu")
    result = denoiser.denoise(torch.zeros(1, 8, 8), Condition(), torch.Generator())
    assert result.numpy() == pytest.approx(MEAN - 1024, abs=0.01)


def test_a_network_fitted_on_the_other_normalisation_is_brought_back_by_it(tmp_path: Path) -> None:
    silent = {name: torch.zeros_like(tensor) for name, tensor in cnn10_state().items()}
    file = publish(tmp_path / "x.pt", silent, trainer="cnn10", data_norm="minmax")
    assert imported(file) == 0
    denoiser = load_denoiser(str(card_at(file, "ldctbench-cnn10")), device="cpu")
    result = denoiser.denoise(torch.zeros(1, 8, 8), Condition(), torch.Generator())
    assert result.numpy() == pytest.approx(-1024, abs=0.01)
    assert imported(publish(tmp_path / "y.pt", silent, trainer="cnn10", data_norm="z")) == 1


class Runs:
    """Something that runs when it is unpickled without care."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return eval, (f"open({str(self.target)!r}, 'w').close()",)


def test_nothing_in_a_file_is_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "run"
    file = publish(tmp_path / "evil.pt", cnn10_state(), trainer="cnn10", extra=Runs(target))
    assert imported(file) == 1
    assert "more than tensors and plain values" in capsys.readouterr().err
    assert not target.exists()
    assert not (tmp_path / "models").exists()


def repacked(path: Path, change: Callable[[str, bytes], bytes]) -> None:
    """Write the archive of a file again, with other contents."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, change(name, data))


def cut_a_record(path: Path) -> None:
    repacked(path, lambda name, data: data[:16] if name.endswith("data/0") else data)


def blow_up(path: Path) -> None:
    size = checkpoint_file.MAX_CHECKPOINT_BYTES
    repacked(path, lambda name, data: bytes(size) if name.endswith("data/0") else data)
    assert path.stat().st_size < size / 100


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(checkpoint_file.MAX_CHECKPOINT_BYTES + 1)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def old_format(path: Path) -> None:
    torch.save({"model_state_dict": {}}, path, _use_new_zipfile_serialization=False)


def bare(path: Path) -> None:
    torch.save(torch.zeros(3), path)


def without_state(path: Path) -> None:
    torch.save({"args": Namespace(trainer="cnn10"), "model_state_dict": {}}, path)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (Path.unlink, "cannot be read: No such file"),
        (cut_a_record, "is damaged"),
        (blow_up, "is larger than 64 MiB"),
        (grow, "is larger than 64 MiB"),
        (cut, "is not a checkpoint of PyTorch 1.6"),
        (old_format, "is not a checkpoint of PyTorch 1.6"),
        (bare, "it contains no dictionary"),
        (without_state, "has no 'model_state_dict'"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused_in_one_sentence(
    spoil: Callable[[Path], None], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = publish(tmp_path / "cnn10.pt", cnn10_state(), trainer="cnn10")
    spoil(file)
    assert imported(file) == 1
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("layers.2.bias"), "lacks 'layers.2.bias'"),
        (lambda s: s.update({"layers.9.bias": torch.zeros(1)}), "unknown 'layers.9.bias'"),
        (
            lambda s: s.update({"layers.4.bias": torch.zeros(2)}),
            "has 2 values in 'layers.4.bias' where its network has 1",
        ),
        (
            # an immense tensor that takes no memory must not be looked at
            lambda s: s.update({"layers.4.bias": torch.zeros(1).expand(1 << 40)}),
            "where its network has 1",
        ),
        (lambda s: s["layers.4.bias"].fill_(float("nan")), "not finite"),
        (lambda s: s.update({"layers.4.bias": "text"}), "other things than named tensors"),
    ],
)
def test_weights_of_another_network_are_refused(
    change: Callable[[State], object],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = cnn10_state()
    change(state)
    assert imported(publish(tmp_path / "cnn10.pt", state, trainer="cnn10")) == 1
    assert said in capsys.readouterr().err


def test_the_method_is_asked_for_where_the_file_does_not_say_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = publish(tmp_path / "a.pt", cnn10_state())
    assert imported(file) == 2
    assert "give --method, cnn10," in capsys.readouterr().err
    assert imported(file, "--method", "cnn10") == 0
    assert imported(file, "--method", "transct") == 2
    assert "'transct' cannot be imported" in capsys.readouterr().err
    said = publish(tmp_path / "b.pt", cnn10_state(), trainer="cnn10")
    assert imported(said, "--method", "redcnn") == 1
    assert "is of 'cnn10', not of 'redcnn'" in capsys.readouterr().err


def test_a_second_network_needs_a_name_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, code in enumerate((0, 1)):
        torch.manual_seed(number)
        file = publish(tmp_path / f"{number}.pt", cnn10_state(), trainer="cnn10")
        assert imported(file) == code
    assert "--name" in capsys.readouterr().err
    assert imported(file, "--name", "other") == 0
    assert imported(file, "--name", "No name") == 2
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [
        "ldctbench-cnn10.json",
        "ldctbench-cnn10.safetensors",
        "other.json",
        "other.safetensors",
    ]
