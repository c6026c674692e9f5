"""Two patients in one series: nothing is derived, all is kept and reported, without any value."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.ct_factory import change_header, make_series
from support.ledger_factory import START, House, NodeFixture
from support.workers import model_worker

from dicom_node.housekeeping.notification import FailureMessage
from dicom_node.ledger.deliveries import Sent
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import list_jobs, unnotified
from dicom_node.ledger.purging import purge_old_series
from dicom_node.ledger.states import JobState

QUIET = 20.0
FOREIGN = {"PatientID": "PAT-B", "PatientName": "BETA^ANNA", "PatientBirthDate": "19800202"}
SECRETS = ("PHANTOM", "PAT-B", "BETA", "19800202")


@pytest.fixture
def scan(tmp_path: Path) -> list[Path]:
    return make_series(tmp_path / "scan", slices=6, size=32)


def work(node: NodeFixture, now: float) -> Job:
    """Complete what is quiet and do the next job."""
    House(node).complete_series(now)
    assert model_worker(node, now).work_once(lambda: False)
    return max(list_jobs(node.ledger), key=lambda job: job.id)


def deliver(node: NodeFixture) -> None:
    """The PACS takes what is derived."""
    delivery = node.claim_delivery("pacs", START + 50)
    sent = {
        path.name: Sent(path.name, 0) for path in node.outbox.committed(delivery.delivery.token)
    }
    delivery.note_sent(sent)
    delivery.confirm()


def assert_refused(node: NodeFixture, job: Job, what: str) -> None:
    assert (job.state, node.outbox.committed(job.token)) == (JobState.FAILED, ())
    assert "The series holds images of several patients" in job.reason
    assert what in job.reason
    assert job in unnotified(node.ledger)
    told = FailureMessage("DENOISE", "host", [job]).text
    assert job.reason in told
    assert not [secret for secret in SECRETS if secret in told]


@pytest.mark.parametrize("keyword", FOREIGN)
def test_one_image_of_another_patient_fails_the_job(
    node: NodeFixture, scan: list[Path], keyword: str
) -> None:
    change_header(scan[3], **{keyword: FOREIGN[keyword]})
    if keyword == "PatientBirthDate":
        for path in scan[:3] + scan[4:]:
            change_header(path, PatientBirthDate="19700101")
    node.arrive_files(scan)
    job = work(node, START + QUIET)
    assert_refused(node, job, f"{keyword} differs in 1 of 6 images (image 4)")
    assert len([*node.inbox.root.rglob("*.dcm")]) == 6


def test_a_late_slice_of_another_patient_fails_its_job_and_leaves_the_earlier(
    node: NodeFixture, scan: list[Path]
) -> None:
    change_header(scan[5], **FOREIGN)
    node.arrive_files(scan[:5])
    first = work(node, START + QUIET)
    assert first.state == JobState.DERIVED
    node.arrive_files(scan[5:], START + 100)
    assert_refused(node, work(node, START + 100 + QUIET), "in 1 of 6 images (image 6)")
    assert len(node.outbox.committed(first.token)) == 5


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (FOREIGN, "PatientID and PatientName differ between these images and earlier ones"),
        ({"PatientID": "", "PatientName": ""}, "neither identifier nor name binds these images"),
    ],
)
def test_a_late_slice_is_compared_even_when_the_earlier_images_have_left(
    node: NodeFixture, scan: list[Path], change: dict[str, str], what: str
) -> None:
    change_header(scan[5], **change)
    node.arrive_files(scan[:5])
    work(node, START + QUIET)
    deliver(node)
    moment = START + 500
    assert purge_old_series(node.ledger, before=moment, now=moment, remove=node.inbox.remove_images)
    node.arrive_files(scan[5:], START + 3600)
    assert_refused(node, work(node, START + 3600 + QUIET), what)


def test_reports_hold_no_identity(node: NodeFixture, scan: list[Path]) -> None:
    node.arrive_files(scan)
    work(node, START + QUIET)
    (report,) = (path.read_text() for path in node.settings.reports_folder.glob("*.json"))
    assert '"patient_marks"' in report
    assert not [secret for secret in SECRETS if secret in report]
