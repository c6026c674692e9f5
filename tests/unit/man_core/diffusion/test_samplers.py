"""Schedule, parametrizations and samplers against their formulas."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from man_core.diffusion.parametrization import clean_from, noise_from, target_of
from man_core.diffusion.samplers import ddim, ddpm, dpmpp_2m
from man_core.diffusion.schedule import cosine_schedule, timestep_subset

KINDS = ("eps", "v", "x0", "residual")


def test_cosine_schedule_follows_equation_4():
    schedule = cosine_schedule(1000)
    curve = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in (0, 300, 700, 990)]
    for step, value in zip((300, 700, 990), curve[1:], strict=True):
        assert float(schedule.alpha_bar[step]) == pytest.approx(value / curve[0], rel=1e-9)


def test_signal_falls_and_never_vanishes():
    alpha_bar = cosine_schedule(1000).alpha_bar
    assert (alpha_bar.diff() < 0).all()
    assert alpha_bar[0] == 1
    assert alpha_bar[-1] > 0
    assert (1 - alpha_bar[1:] / alpha_bar[:-1]).max() <= 0.999 + 1e-12


@given(first=st.integers(2, 1000), share=st.floats(0, 1))
def test_subsets_fall_from_the_first_step_to_at_least_one(first, share):
    steps = timestep_subset(first, max(1, round(share * first)))
    assert steps[0] == first
    assert steps[-1] >= 1
    assert all(a > b for a, b in pairwise(steps))


@pytest.mark.parametrize("count", [0, 991])
def test_impossible_subsets_are_refused(count):
    with pytest.raises(ValueError, match="1 to 990 steps"):
        timestep_subset(990, count)


@pytest.mark.parametrize("kind", KINDS)
@given(step=st.integers(1, 990), seed=st.integers(0, 2**31))
def test_target_leads_back_to_the_clean_latent(kind, step, seed):
    generator = torch.Generator().manual_seed(seed)
    clean, noise, condition = torch.randn(3, 1, 2, 4, 4, generator=generator).double()
    schedule = cosine_schedule(1000)
    level = schedule.alpha_bar[step]
    z = level.sqrt() * clean + (1 - level).sqrt() * noise
    target = target_of(kind, clean, noise, level, condition)
    back = clean_from(kind, target, z, level, condition)
    assert torch.allclose(back, clean, atol=1e-9)
    assert torch.allclose(noise_from(back, z, level), noise, atol=1e-6)


@pytest.mark.parametrize("count", [1, 4, 30])
def test_ddim_with_a_perfect_model_finds_the_clean_latent(count):
    clean = torch.randn(2, 3, 8, 8)
    result = ddim(
        lambda z, step: clean,
        torch.randn(2, 3, 8, 8),
        timestep_subset(990, count),
        cosine_schedule(1000),
    )
    assert torch.allclose(result, clean, atol=1e-5)


def test_ddim_keeps_the_noise_it_started_from():
    """With the exact clean latent every step lies on the straight path of eq. 6."""
    clean, noise = torch.randn(2, 1, 1, 8, 8)
    schedule, seen = cosine_schedule(1000), []

    def model(z, step):
        seen.append((step, z))
        return clean

    start = schedule.noised(clean, torch.tensor([990]), noise)
    ddim(model, start, timestep_subset(990, 5), schedule)
    for step, z in seen:
        assert torch.allclose(z, schedule.noised(clean, torch.tensor([step]), noise), atol=1e-4)


MEAN, STD = 0.7, 0.3


def posterior_mean(schedule):
    """The best prediction where clean latents are drawn from N(MEAN, STD^2)."""

    def model(z, step):
        level = float(schedule.alpha_bar[step])
        gain = STD**2 * math.sqrt(level) / (STD**2 * level + 1 - level)
        return MEAN + gain * (z - math.sqrt(level) * MEAN)

    return model


@pytest.mark.parametrize("count", [200, 100])
def test_ancestral_sampling_draws_from_the_data_distribution(count):
    schedule = cosine_schedule(200)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(1, 1, 64, 64, generator=generator)
    sample = ddpm(
        posterior_mean(schedule),
        start,
        timestep_subset(200, count),
        schedule,
        lambda like: torch.randn(like.shape, generator=generator),
    )
    assert float(sample.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(sample.std()) == pytest.approx(STD, abs=0.02)


def error_of(sampler, count):
    """Largest distance from the exact end of the probability flow, which is known for Gaussians."""
    schedule, first = cosine_schedule(10_000), 8_000
    start = torch.linspace(-2, 2, 16, dtype=torch.float64).view(1, 1, 4, 4)
    level = float(schedule.alpha_bar[first])
    spread = math.sqrt(STD**2 * level + 1 - level)
    exact = MEAN + STD * (start - math.sqrt(level) * MEAN) / spread
    found = sampler(posterior_mean(schedule), start, timestep_subset(first, count), schedule)
    return float((found - exact).abs().max())


def test_the_multistep_solver_converges_with_a_higher_order_than_ddim():
    """Twice the steps: a quarter of the error for 2M, a half of it for DDIM."""
    for count in (16, 32, 64):
        assert error_of(dpmpp_2m, 2 * count) < 0.3 * error_of(dpmpp_2m, count)
        assert 0.4 < error_of(ddim, 2 * count) / error_of(ddim, count) < 0.6
        assert error_of(dpmpp_2m, count) < 0.5 * error_of(ddim, count)


@pytest.mark.parametrize("count", [1, 2, 8])
def test_the_multistep_solver_with_a_perfect_model_finds_the_clean_latent(count):
    clean, start = torch.randn(2, 2, 3, 8, 8)
    steps = timestep_subset(990, count)
    result = dpmpp_2m(lambda z, step: clean, start, steps, cosine_schedule(1000))
    assert torch.equal(result, clean)


@given(first=st.integers(2, 990), seed=st.integers(0, 2**31))
def test_one_step_and_two_of_first_order_agree_with_ddim(first, seed):
    """With nothing before it, a step of the solver is one of DDIM."""
    schedule = cosine_schedule(1000)
    start = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(seed)).double()
    steps = [first, 1]
    results = [s(posterior_mean(schedule), start, steps, schedule) for s in (dpmpp_2m, ddim)]
    assert torch.allclose(*results, atol=1e-4)


@given(ratio=st.floats(0.0, 100.0))
def test_the_matched_step_has_the_nearest_noise(ratio):
    schedule = cosine_schedule(1000)
    step = schedule.step_with_noise(ratio)
    assert 1 <= step <= 1000
    for other in (step - 1, step + 1):
        if 1 <= other <= 1000:
            distance, further = (
                abs(math.sqrt(1 / float(schedule.alpha_bar[t]) - 1) - ratio) for t in (step, other)
            )
            assert distance <= further


def test_samplers_tell_their_progress():
    told: list[tuple[int, int]] = []
    schedule = cosine_schedule(10)
    zero = torch.zeros(1, 1, 2, 2)
    ddim(
        lambda z, step: z, zero, [9, 5, 1], schedule, lambda done, total: told.append((done, total))
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
