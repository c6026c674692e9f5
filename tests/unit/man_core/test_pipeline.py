"""A series through a denoiser: geometry, progress, stop, strength, determinism; models by name."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from man_core import (
    Condition,
    ModelCard,
    ModelError,
    Stopped,
    Volume,
    denoise_volume,
    list_models,
    load_denoiser,
    series_seed,
)
from man_core.nets.autoencoder import AutoencoderConfig
from man_core.nets.man import ManConfig, ManNetwork
from man_core.nets.unet import UnetConfig
from man_core.weights import save_weights

TINY = ManConfig(
    AutoencoderConfig(latent=4, stem=2, channels=(8, 8)),
    UnetConfig(latent=4, channels=(8, 16), attention=(1,), context=16, context_width=8, time=16),
)


class Halving:
    """A denoiser that halves every HU, two slices at once."""

    info = ModelCard(name="halving", version="1", method="identity", summary="halves")
    device, steps = "cpu", 0

    def __init__(self):
        self.batches = []

    def denoise(self, hu, condition, generator, on_step=None):
        self.batches.append(len(hu))
        return hu / 2

    def slices_at_once(self, rows, columns):
        return 2


@pytest.fixture
def volume():
    hu = np.random.default_rng(0).normal(40, 20, (5, 32, 40)).astype(np.float32)
    return Volume(hu, (3.0, 0.7, 0.7), np.diag([3.0, 0.7, 0.7, 1.0]))


@pytest.fixture
def tiny_model(tmp_path):
    """A MAN of random weights with its card, in a folder of its own."""
    torch.manual_seed(0)
    network = ManNetwork(TINY)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    sha256 = save_weights(tmp_path / "tiny.safetensors", network.state_dict(), TINY.to_dict())
    card = ModelCard(
        name="tiny",
        version="0",
        method="man",
        summary="tiny",
        weights_file="tiny.safetensors",
        weights_sha256=sha256,
        steps=3,
    )
    (tmp_path / "tiny.json").write_text(card.to_json())
    return tmp_path


def test_every_slice_is_denoised_once_and_geometry_stays(volume):
    denoiser, told = Halving(), []
    result, report = denoise_volume(
        volume,
        denoiser,
        Condition(),
        seed=1,
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert np.array_equal(result.hu, volume.hu / 2)
    assert result.spacing_mm == volume.spacing_mm
    assert np.array_equal(result.affine, volume.affine)
    assert denoiser.batches == [2, 2, 1]
    assert told == [(2, 5), (4, 5), (5, 5)]
    assert report.slices == 5


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_strength_blends_in_hu(volume, strength):
    result, report = denoise_volume(volume, Halving(), Condition(), seed=1, strength=strength)
    assert np.allclose(result.hu, volume.hu * (1 - strength / 2), atol=1e-4)
    assert report.strength == strength


def test_impossible_strength_is_refused(volume):
    with pytest.raises(ValueError, match="0 to 1"):
        denoise_volume(volume, Halving(), Condition(), seed=1, strength=1.5)


def test_stop_is_obeyed_before_the_next_batch(volume):
    denoiser = Halving()
    with pytest.raises(Stopped):
        denoise_volume(
            volume, denoiser, Condition(), seed=1, should_stop=lambda: len(denoiser.batches) == 1
        )
    assert denoiser.batches == [2]


def test_a_batch_that_does_not_fit_is_halved(volume):
    """Another program took memory of the device since it was asked how much fits."""

    class Crowded(Halving):
        def denoise(self, hu, condition, generator, on_step=None):
            if len(hu) > 1:
                raise torch.OutOfMemoryError("device is full")
            return super().denoise(hu, condition, generator)

    crowded = Crowded()
    result, _ = denoise_volume(volume, crowded, Condition(), seed=1)
    assert crowded.batches == [1] * 5
    np.testing.assert_array_equal(result.hu, volume.hu / 2)


def test_a_slice_too_large_for_memory_is_reported(volume):
    class Full(Halving):
        def denoise(self, hu, condition, generator, on_step=None):
            raise torch.OutOfMemoryError("device is full")

    with pytest.raises(torch.OutOfMemoryError):
        denoise_volume(volume, Full(), Condition(), seed=1)


def test_values_that_are_not_finite_never_leave(volume):
    class Broken(Halving):
        def denoise(self, hu, condition, generator, on_step=None):
            return hu * torch.nan

    with pytest.raises(ModelError, match="not finite"):
        denoise_volume(volume, Broken(), Condition(), seed=1)


def test_the_same_series_gives_the_same_bytes(volume, tiny_model):
    denoiser = load_denoiser("tiny", device="cpu", folder=tiny_model)
    seed = series_seed("1.2.3", denoiser.info.digest)
    first, _ = denoise_volume(volume, denoiser, Condition(), seed=seed)
    again, _ = denoise_volume(volume, denoiser, Condition(), seed=seed)
    other, _ = denoise_volume(volume, denoiser, Condition(), seed=seed + 1)
    assert first.hu.tobytes() == again.hu.tobytes()
    assert first.hu.tobytes() != other.hu.tobytes()


def test_batch_size_does_not_change_the_result(volume, tiny_model, monkeypatch):
    denoiser = load_denoiser("tiny", device="cpu", folder=tiny_model)
    one, _ = denoise_volume(volume, denoiser, Condition(), seed=7)
    monkeypatch.setattr(type(denoiser), "slices_at_once", lambda *_: 5)
    five, _ = denoise_volume(volume, denoiser, Condition(), seed=7)
    assert one.hu.tobytes() == five.hu.tobytes()


def test_bfloat16_stays_close_to_float32(volume, tiny_model):
    results = [
        denoise_volume(
            volume,
            load_denoiser("tiny", device="cpu", folder=tiny_model, precision=precision),
            Condition(),
            seed=7,
        )[0].hu
        for precision in ("float32", "bfloat16")
    ]
    spread = np.abs(results[0] - volume.hu).mean()
    assert 0 < np.abs(results[0] - results[1]).mean() < 0.1 * spread


def test_any_matrix_size_is_handled(tiny_model):
    denoiser = load_denoiser("tiny", device="cpu", folder=tiny_model)
    hu = torch.randn(2, 37, 51) * 100
    assert denoiser.denoise(hu, Condition(), torch.Generator().manual_seed(0)).shape == hu.shape


def test_what_lies_outside_the_networks_range_is_handed_through(tiny_model):
    """Metal above 3072 HU and padding below -1024 keep their distance to the range."""
    denoiser = load_denoiser("tiny", device="cpu", folder=tiny_model)
    hu = torch.zeros(1, 32, 32)
    hu[0, :4, :4], hu[0, -4:, -4:] = 9000.0, -2000.0
    inside = hu.clip(-1024, 3072)
    generator = torch.Generator()
    result = denoiser.denoise(hu, Condition(), generator.manual_seed(0))
    plain = denoiser.denoise(inside, Condition(), generator.manual_seed(0))
    assert torch.allclose(result - plain, hu - inside, atol=1e-3)


def test_seeds_depend_on_series_and_model():
    seeds = {series_seed(uid, digest) for uid in ("1.2", "1.3") for digest in ("a", "b")}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_steps_can_be_chosen_within_reason(tiny_model):
    assert load_denoiser("tiny", device="cpu", steps=7, folder=tiny_model).steps == 7
    with pytest.raises(ModelError, match="1 to 990 steps"):
        load_denoiser("tiny", device="cpu", steps=5000, folder=tiny_model)


def test_identity_is_always_there():
    assert "identity" in {card.name for card in list_models()}
    hu = torch.randn(1, 8, 8)
    assert torch.equal(load_denoiser("identity").denoise(hu, Condition(), torch.Generator()), hu)


def test_cards_survive_their_file(tiny_model):
    card = next(card for card in list_models(tiny_model) if card.name == "tiny")
    assert ModelCard.from_json(card.to_json()) == card


def test_the_digest_changes_with_what_decides_the_output():
    card = ModelCard(name="a", version="1", method="man", summary="", weights_sha256="00", steps=4)
    assert replace(card, summary="other").digest == card.digest
    assert replace(card, steps=5).digest != card.digest
    assert replace(card, weights_sha256="01").digest != card.digest


def test_a_model_can_be_named_by_its_cards_path(tiny_model):
    assert load_denoiser(str(tiny_model / "tiny.json"), device="cpu").info.name == "tiny"


def test_one_changed_byte_in_the_weights_is_refused(tiny_model):
    path = tiny_model / "tiny.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"not those of their card .*install them again"):
        load_denoiser("tiny", folder=tiny_model)


def test_missing_and_foreign_weights_are_refused(tiny_model):
    (tiny_model / "tiny.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load_denoiser("tiny", folder=tiny_model)
    sha256 = save_weights(tiny_model / "tiny.safetensors", {"x": torch.zeros(2)}, TINY.to_dict())
    card = json.loads((tiny_model / "tiny.json").read_text())
    (tiny_model / "tiny.json").write_text(json.dumps(card | {"weights_sha256": sha256}))
    with pytest.raises(ModelError, match="do not fit"):
        load_denoiser("tiny", folder=tiny_model)


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "meta"])
def test_devices_that_are_not_there_are_refused(tiny_model, device):
    with pytest.raises(ModelError, match=r"[Dd]evice"):
        load_denoiser("tiny", device=device, folder=tiny_model)


def test_unknown_names_and_broken_cards_are_refused(tmp_path):
    with pytest.raises(ModelError, match="no model named 'nope'"):
        load_denoiser("nope")
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(ModelError, match=r"broken\.json cannot be read"):
        list_models(tmp_path)
