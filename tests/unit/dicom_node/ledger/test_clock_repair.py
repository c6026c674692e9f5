"""A clock that was wrong: nothing waits for years, and nothing that is planned rightly changes."""

from __future__ import annotations

import pytest
from support.ledger_factory import START, House, NodeFixture

from dicom_node.ledger.clock_repair import correct_clock, newest_moment
from dicom_node.ledger.operations import get_job
from dicom_node.ledger.states import JobState

YEARS = 3e8
"""A machine without a battery for its clock, which starts ten years ahead or behind."""


@pytest.fixture
def house(node: NodeFixture) -> House:
    return House(node)


def test_a_delivery_that_waits_for_years_is_sent_once_the_clock_is_right(
    node: NodeFixture, house: House
) -> None:
    then = START + YEARS
    node.job(now=then)
    node.claim_job(then).derived(1)
    node.claim_delivery("pacs", then).retry_later("away", delay_seconds=30)
    house.correct_clock(START)
    assert node.claim_delivery().delivery.destination == "pacs"


def test_a_lease_from_the_future_runs_out_like_any_other(node: NodeFixture, house: House) -> None:
    job = node.job(now=START + YEARS)
    node.claim_job(START + YEARS, owner="another host")
    house.correct_clock(START)
    house.release_leases(START + 1)
    assert get_job(node.ledger, job.id).state == JobState.DENOISING
    house.release_leases(START + 120)
    assert get_job(node.ledger, job.id).state == JobState.QUEUED


@pytest.mark.parametrize("delay", [0.0, 30.0, 100.0])
def test_what_is_planned_rightly_stays(node: NodeFixture, delay: float) -> None:
    job = node.job()
    node.claim_job().retry_later("away", delay_seconds=delay)
    assert correct_clock(node.ledger, max_plan_seconds=100.0, now=START) == 0
    assert get_job(node.ledger, job.id).next_at == START + delay


def test_half_a_series_and_the_rest_with_the_clock_set_back_in_between(
    node: NodeFixture, house: House
) -> None:
    """The second half seems to come ten years before the first."""
    uid = node.arrive_series(slices=4, now=START + YEARS)
    house.complete_series(START + 10)
    house.complete_series(START + 100)
    assert newest_moment(node.ledger) == START + YEARS
    assert node.claim_job(START + 100).job.series_uid == uid
