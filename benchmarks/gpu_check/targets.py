"""Bars of the figures, as the project has set them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.gpu_check.part import Outcome

HU_TO_HU = "MAN, HU to HU"
ALONE = "MAN, HU to HU, without guard"
GUARD = "guard"
FILES_TO_FILES = "files to files"
DDPM = "DDPM, fastest batch"
FIT_STEP = "restoration step"
"""Names of the figures that have bars."""

FAST_GPUS = ("H100", "H200")
"""GPUs for which the bars of milliseconds are meant."""

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Target:
    """A bar.

    Attributes:
        text: The bar in words.
        needs: Figures that it is judged by.
        reached: Whether these figures reach it.
        fast_only: Whether it is meant for ``FAST_GPUS`` only.
    """

    text: str
    needs: tuple[str, ...]
    reached: Callable[[Figures], bool]
    fast_only: bool = True


TARGETS = (
    Target("at most 1 ms a slice, HU to HU", (HU_TO_HU,), lambda f: f[HU_TO_HU] <= 1.0),
    Target(
        "guard at most as long as the denoiser", (GUARD, ALONE),
        lambda f: f[GUARD] <= f[ALONE], fast_only=False,
    ),
    Target(
        "files to files at most 4 s for 300 slices", (FILES_TO_FILES,),
        lambda f: f[FILES_TO_FILES] <= 4.0,
    ),
    Target(
        "DDPM of 1000 steps at least 5,000 times slower", (DDPM, HU_TO_HU),
        lambda f: f[DDPM] >= 5000 * f[HU_TO_HU], fast_only=False,
    ),
    Target(
        "step of 64 crops of 160² at most 45 ms", (FIT_STEP,), lambda f: f[FIT_STEP] <= 45.0,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """A bar with its verdict.

    Attributes:
        target: The bar in words.
        verdict: ``pass``, ``missed`` or ``not at hand``.
        measured: The figures that it was judged by.
        reason: Reason for which it was not judged.
    """

    target: str
    verdict: str
    measured: Figures
    reason: str = ""


def judged(outcomes: Sequence[Outcome], device: str, preset: str) -> list[Verdict]:
    """Judge all bars.

    Args:
        outcomes: Results of the parts.
        device: Name of the GPU, or ``cpu``.
        preset: Name of the preset; bars are for the full sizes.
    """
    found = {
        figure.name: figure.value
        for outcome in outcomes
        for figure in outcome.figures
        if isinstance(figure.value, float)
    }
    return [_judged(target, found, device, preset) for target in TARGETS]


def _judged(target: Target, found: Figures, device: str, preset: str) -> Verdict:
    measured = {name: found[name] for name in target.needs if name in found}
    missing = [name for name in target.needs if name not in found]
    reason = ""
    if device == "cpu":
        reason = "no GPU"
    elif preset != "full":
        reason = f"the sizes are those of the preset {preset}"
    elif target.fast_only and not any(name in device for name in FAST_GPUS):
        reason = f"meant for {' or '.join(FAST_GPUS)}"
    elif missing:
        reason = f"not measured: {', '.join(missing)}"
    if reason:
        return Verdict(target.text, "not at hand", measured, reason)
    return Verdict(target.text, "pass" if target.reached(measured) else "missed", measured)
