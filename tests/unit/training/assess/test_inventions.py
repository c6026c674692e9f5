"""Detection of invented structure by ring correlation with the low dose."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from man_core import Condition, Volume
from training.assess.finding import Finding
from training.assess.images import CaseResult
from training.assess.inventions import CONTRASTS_HU, SIZES_MM, invention_findings
from training.evaluate.cases import Case

SHAPE = (2, 128, 128)
FLAGGED = "share of patches flagged"

Hu = NDArray[np.float32]


def outcome(noise_hu: float, invented: Hu | None = None, tissue_hu: float = 50.0) -> CaseResult:
    """Textured tissue; the result is the low dose, with what was invented."""
    line = np.arange(SHAPE[1]) / 3.0
    texture = 8.0 * np.sin(line[:, None]) * np.sin(line[None, :])
    full = np.broadcast_to(tissue_hu + texture, SHAPE).astype(np.float32)
    low = (full + np.random.default_rng(1).normal(0.0, noise_hu, SHAPE)).astype(np.float32)
    volume = Volume(low, (3.0, 0.8, 0.8), np.eye(4))
    case = Case("validation", "a", "p", 0.25, False, volume, full, Condition())
    return CaseResult(case, low if invented is None else low + invented)


def findings(*outcomes: CaseResult) -> dict[str, Finding]:
    return {found.quantity: found for found in invention_findings(outcomes)}


def test_a_result_that_shows_what_the_low_dose_shows_is_not_flagged() -> None:
    found = findings(outcome(20.0))
    assert found[FLAGGED].value == 0.0
    assert found[FLAGGED].full_dose is not None
    assert all(each.limit is None for each in found.values())


def test_invented_structure_is_flagged_where_it_lies() -> None:
    invented = np.zeros(SHAPE, dtype=np.float32)
    down, across = np.ogrid[: SHAPE[1], : SHAPE[2]]
    invented[0, np.hypot(down - 48, across - 48) < 7] = 80.0
    share = findings(outcome(2.0, invented))[FLAGGED].value
    assert 0.0 < share < 0.1  # the disc lies in up to nine of 98 patches


def test_large_and_strong_inventions_are_found_sooner() -> None:
    found = findings(outcome(30.0))
    rates = [found[f"share of inventions of {size:g} mm flagged"] for size in SIZES_MM]
    assert rates[-1].value > rates[0].value
    assert [part.partition(" HU")[0] for part in rates[0].note.split("; ")] == [
        f"{hu:g}" for hu in CONTRASTS_HU
    ]
    shares = [float(part.rpartition(" ")[2]) for part in rates[-1].note.split("; ")]
    assert shares == sorted(shares)
    assert shares[-1] > shares[0]


def test_the_same_outcome_gives_the_same_figures() -> None:
    assert findings(outcome(30.0)) == findings(outcome(30.0))


@pytest.mark.parametrize("tissue_hu", [-1000.0])
def test_without_soft_tissue_there_is_nothing_to_measure(tissue_hu: float) -> None:
    (found,) = invention_findings([outcome(2.0, tissue_hu=tissue_hu)])
    assert math.isnan(found.value)
    assert (found.passed, found.note) == (None, "no patch shows soft tissue")
