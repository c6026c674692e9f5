"""Notification messages about failed jobs and problems, as text and as a JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dicom_node.health import Problem
from dicom_node.ledger.model import Job
from dicom_node.logs import short_hash

MAX_JOBS = 20
"""Jobs listed in one message: a PACS that refuses everything fails hundreds."""


@dataclass(frozen=True)
class FailureMessage:
    """Message about jobs that have failed."""

    ae_title: str
    host: str
    jobs: Sequence[Job]

    @property
    def headline(self) -> str:
        """Subject line."""
        count = len(self.jobs)
        what = f"job {self.jobs[0].id} has failed" if count == 1 else f"{count} jobs have failed"
        return f"{self.ae_title} on {self.host}: {what}"

    @property
    def text(self) -> str:
        """Jobs with reasons and remedy, without any identity."""
        lines = [f"{self.headline}.", ""]
        lines += [
            f"job {job.id} (series {short_hash(job.series_uid)}): {job.reason}"
            for job in self.jobs[:MAX_JOBS]
        ]
        if len(self.jobs) > MAX_JOBS:
            lines.append(f"and {len(self.jobs) - MAX_JOBS} more")
        lines += [
            "",
            "`dicom-node jobs show ID` shows details, `dicom-node jobs retry ID` tries again.",
        ]
        return "\n".join(lines)

    @property
    def document(self) -> dict[str, Any]:
        """JSON document, for programs; chat services display `text`."""
        return {
            "event": "jobs_failed",
            "text": self.text,
            "node": self.ae_title,
            "host": self.host,
            "jobs": [
                {
                    "id": job.id,
                    "series": short_hash(job.series_uid),
                    "reason": job.reason,
                    "failed_at": job.updated_at,
                }
                for job in self.jobs[:MAX_JOBS]
            ],
        }


@dataclass(frozen=True)
class ProblemMessage:
    """Message about problems that last."""

    ae_title: str
    host: str
    problems: Sequence[Problem]

    @property
    def headline(self) -> str:
        """Subject line."""
        kinds = ", ".join(dict.fromkeys(problem.kind for problem in self.problems))
        return f"{self.ae_title} on {self.host}: not in order ({kinds})"

    @property
    def text(self) -> str:
        """Text of each problem, without any identity."""
        return "\n".join([f"{self.headline}.", "", *(problem.text for problem in self.problems)])

    @property
    def document(self) -> dict[str, Any]:
        """JSON document, for programs; chat services display `text`."""
        return {
            "event": "troubles",
            "text": self.text,
            "node": self.ae_title,
            "host": self.host,
            "troubles": [
                {"kind": item.kind, "severity": item.severity.value, "text": item.text}
                for item in self.problems
            ],
        }


class Message(Protocol):
    """A message that a channel can send."""

    @property
    def headline(self) -> str:
        """Subject line."""

    @property
    def text(self) -> str:
        """Complete text, for people."""

    @property
    def document(self) -> dict[str, Any]:
        """JSON document, for programs."""


class Channel(Protocol):
    """A means of notification."""

    @property
    def name(self) -> str:
        """Name in the log."""

    def send(self, message: Message) -> None:
        """Send a message.

        Raises:
            PeerError: It could not be sent.
        """
