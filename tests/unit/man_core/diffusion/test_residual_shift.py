"""Residual shifting against its formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from man_core.diffusion.residual_shift import (
    ShiftConfig,
    residual_ddim,
    residual_shift,
    shift_schedule,
)
from man_core.diffusion.schedule import timestep_subset

configs = st.builds(
    ShiftConfig, steps=st.integers(1, 30), kappa=st.floats(0.05, 4.0), power=st.floats(0.1, 3.0)
)


@given(config=configs)
def test_the_shift_rises_from_nothing_to_nearly_all(config):
    schedule = shift_schedule(config)
    assert schedule.steps == config.steps
    assert schedule.eta[0] == 0
    assert (schedule.eta.diff() > 0).all()
    assert float(schedule.eta[-1]) == pytest.approx(0.999)
    if config.steps > 1:
        assert float(schedule.eta[1]) <= 0.001
        assert config.kappa * math.sqrt(schedule.eta[1]) <= 0.04 + 1e-12


def test_the_exponent_is_geometric_where_the_power_is_one():
    eta = shift_schedule(ShiftConfig(steps=5, power=1.0)).eta[1:]
    ratios = eta[1:] / eta[:-1]
    assert torch.allclose(ratios, ratios[:1].expand(4))


def test_the_warped_exponent_follows_the_formula():
    config = ShiftConfig(steps=4, kappa=0.5, power=0.3)
    eta = shift_schedule(config).eta
    base = math.exp(math.log(0.999 / 0.001) / (2 * 3))
    root = math.sqrt(0.001) * base ** ((1 / 3) ** 0.3 * 3)
    assert math.sqrt(eta[2]) == pytest.approx(root)


@pytest.mark.parametrize("step", [1, 3, 4])
def test_the_forward_marginal_has_its_mean_and_spread(step):
    schedule = shift_schedule(ShiftConfig())
    generator = torch.Generator().manual_seed(step)
    clean, low = torch.full((2, 1, 64, 64), 2.0), torch.full((2, 1, 64, 64), 3.0)
    noise = torch.randn(clean.shape, generator=generator)
    z = schedule.shifted(clean, low, torch.full((2,), step), noise)
    eta = float(schedule.eta[step])
    spread = 0.5 * math.sqrt(eta)
    assert float(z.mean()) == pytest.approx(2 + eta, abs=4 * spread / 90)
    assert float(z.std()) == pytest.approx(spread, rel=0.05)


def test_a_single_step_of_shifting_gives_the_increments_of_the_marginals():
    """Markov chain of section 2.1: shifting from t - 1 to t adds (eta_t - eta_{t-1}) e_0."""
    schedule = shift_schedule(ShiftConfig())
    clean, low = torch.randn(2, 1, 1, 4, 4)
    still = torch.zeros_like(clean)
    z = [schedule.shifted(clean, low, torch.tensor([t]), still) for t in range(5)]
    for step in range(1, 5):
        share = float(schedule.eta[step] - schedule.eta[step - 1])
        assert torch.allclose(z[step] - z[step - 1], share * (low - clean), atol=1e-6)
    assert torch.equal(z[0], clean)


def test_the_last_step_hides_the_clean_latent():
    schedule = shift_schedule(ShiftConfig())
    clean, low, noise = torch.randn(3, 1, 1, 4, 4)
    last = schedule.shifted(clean, low, torch.tensor([4]), noise)
    assert torch.allclose(last, schedule.start(low, noise), atol=0.01)


@given(config=configs, seed=st.integers(0, 2**31), share=st.floats(0, 1))
def test_with_a_perfect_model_the_sampler_finds_the_clean_latent(config, seed, share):
    generator = torch.Generator().manual_seed(seed)
    clean, low, noise = torch.randn(3, 1, 2, 4, 4, generator=generator)
    schedule = shift_schedule(config)
    steps = timestep_subset(config.steps, max(1, round(share * config.steps)))
    start = schedule.start(low, noise)
    found = residual_shift(lambda z, step: clean, start, steps, schedule)
    assert torch.allclose(found, clean, atol=1e-6)
    kept = residual_ddim(lambda z, step: clean, start, low, steps, schedule)
    assert torch.allclose(kept, clean, atol=1e-6)


def test_the_posterior_mean_lies_between_sample_and_prediction():
    schedule, seen = shift_schedule(ShiftConfig()), []
    clean, start = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)

    def model(z, step):
        seen.append((step, float(z[0, 0, 0, 0])))
        return clean

    told: list[tuple[int, int]] = []
    residual_shift(
        model, start, [4, 3, 2, 1], schedule, lambda done, total: told.append((done, total))
    )
    eta = schedule.eta / schedule.eta[4]
    assert [step for step, _ in seen] == [4, 3, 2, 1]
    assert [value for _, value in seen] == pytest.approx([float(eta[t]) for t in (4, 3, 2, 1)])
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_deterministic_path_keeps_the_marginals():
    """With the exact clean latent each step lies where the forward process would have put it."""
    schedule, seen = shift_schedule(ShiftConfig()), []
    clean, low, noise = torch.randn(3, 1, 1, 4, 4)

    def model(z, step):
        seen.append((step, z))
        return clean

    start = schedule.shifted(clean, low, torch.tensor([4]), noise)
    residual_ddim(model, start, low, [4, 3, 2, 1], schedule)
    for step, z in seen:
        assert torch.allclose(
            z, schedule.shifted(clean, low, torch.tensor([step]), noise), atol=1e-5
        )


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"kappa": 0.0}, {"power": -1.0}])
def test_what_gives_no_schedule_is_refused(wrong):
    with pytest.raises(ValueError, match="shift needs"):
        ShiftConfig(**wrong)
