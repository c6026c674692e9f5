from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from training.assess import phantom
from training.assess.finding import Finding
from training.assess.protocol import assess
from training.evaluate.cases import Case
from training.evaluate.classical import gaussian_blur
from training.evaluate.methods import Method, untouched

Hu = NDArray[np.float32]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many slices as the observer needs at least, and two of the patient."""
    monkeypatch.setattr(phantom, "REALISATIONS", 4)
    monkeypatch.setattr(phantom, "PHANTOM_SLICES", 2)
    monkeypatch.setattr(phantom, "PHANTOM_SIZE", 128)


def findings(method: Method) -> dict[tuple[str, str], Finding]:
    found = phantom.phantom_findings(method, 0.25)
    return {(each.subject.split(",")[0], each.quantity): each for each in found}


def test_phantoms_tell_noise_sharpness_and_detectability_of_low_dose_and_of_a_blur() -> None:
    def blur(case: Case, _window: tuple[float, float]) -> tuple[Hu, float]:
        return gaussian_blur(case.low.hu, 1.2), 0.0

    low, blurred = findings(untouched()), findings(Method("blur", "", 0, blur))
    peak = ("water and rods", "noise peak frequency over full dose")
    assert low[peak].passed is True
    assert "2.0" in low[peak].note
    assert blurred[peak].passed is False
    assert blurred[peak].value < 0.85
    sharp = ("water and rods", "sharpness f50 over truth, acrylic")
    assert low[sharp].value == pytest.approx(1.0, abs=0.15)
    assert blurred[sharp].value < 0.75
    seen = ("water and rods", "detectability d' of 6 mm, 20 HU")
    assert 1.2 < low[seen].value < 4.0
    assert blurred[seen].value == pytest.approx(low[seen].value, rel=0.25)
    flicker = ("simulated patient", "energy between slices")
    assert low[flicker].value > 1.2 > blurred[flicker].value


def test_without_a_dose_there_are_no_phantoms() -> None:
    volume = phantom.low_dose_phantom("abdomen", slices=1, size=128).full
    case = Case("x", "a", "p", 0.25, False, volume, volume.hu, phantom.Condition())
    subjects = {found.subject for found in assess(untouched(), [case], trials=0).findings}
    assert not any("rods" in subject for subject in subjects)
