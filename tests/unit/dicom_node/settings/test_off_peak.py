"""Off-peak hours: local time, over midnight, and through a change of the clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from dicom_node.settings import OffPeakSettings


@pytest.fixture(autouse=True)
def _in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as local:
        local.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


def moment(text: str) -> float:
    """Seconds since 1970 of a moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("utc", "holds"),
    [
        ("2026-01-15 17:59", False),  # 18:59 here
        ("2026-01-15 18:00", True),
        ("2026-01-15 23:30", True),  # after midnight here
        ("2026-01-16 05:59", True),
        ("2026-01-16 06:00", False),
        ("2026-07-15 16:59", False),  # summer time
        ("2026-07-15 17:00", True),
    ],
)
def test_hours_over_midnight_are_local_time(utc: str, holds: bool) -> None:
    assert OffPeakSettings().holds_at(moment(utc)) is holds


@pytest.mark.parametrize(
    ("utc", "holds"),
    [("2026-01-15 11:59", True), ("2026-01-15 12:00", False), ("2026-01-15 10:59", False)],
)
def test_hours_within_a_day(utc: str, holds: bool) -> None:
    noon = OffPeakSettings.model_validate({"begin": "12:00", "end": "13:00"})
    assert noon.holds_at(moment(utc)) is holds


def test_equal_ends_mean_always() -> None:
    always = OffPeakSettings.model_validate({"begin": "07:00", "end": "07:00"})
    assert all(always.holds_at(moment(f"2026-01-15 {hour:02}:00")) for hour in range(24))
