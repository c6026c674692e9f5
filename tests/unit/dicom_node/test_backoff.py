"""Delays between attempts at something that keeps failing."""

from __future__ import annotations

import math

from dicom_node.backoff import Backoff, backoff_seconds


def test_the_delay_doubles_up_to_the_maximum_and_begins_anew_after_a_success() -> None:
    backoff = Backoff(first_seconds=30.0, max_seconds=200.0)
    assert [backoff.next_seconds() for _ in range(5)] == [30.0, 60.0, 120.0, 200.0, 200.0]
    backoff.reset()
    assert backoff.next_seconds() == 30.0


def test_the_delay_stays_finite_after_any_number_of_failures() -> None:
    assert math.isfinite(backoff_seconds(10**6, 1.0, math.inf))
