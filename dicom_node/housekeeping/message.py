"""News of jobs that have failed for good and of troubles, in words and as a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dicom_node.health import Trouble
from dicom_node.ledger.model import Job
from dicom_node.logs import short_hash

SHOWN_JOBS = 20
"""One message names at most so many jobs: a PACS that refuses everything fails hundreds."""


@dataclass(frozen=True)
class News:
    """Jobs that have failed, and on which node."""

    ae_title: str
    host: str
    jobs: Sequence[Job]

    @property
    def headline(self) -> str:
        """One line for a subject."""
        count = len(self.jobs)
        what = f"job {self.jobs[0].id} has failed" if count == 1 else f"{count} jobs have failed"
        return f"{self.ae_title} on {self.host}: {what}"

    @property
    def text(self) -> str:
        """The jobs with their reasons, and what to do; no identity."""
        lines = [f"{self.headline}.", ""]
        lines += [
            f"job {job.id} (series {short_hash(job.series_uid)}): {job.reason}"
            for job in self.jobs[:SHOWN_JOBS]
        ]
        if len(self.jobs) > SHOWN_JOBS:
            lines.append(f"and {len(self.jobs) - SHOWN_JOBS} more")
        lines += [
            "",
            "`dicom-node jobs show ID` tells more, `dicom-node jobs retry ID` tries again.",
        ]
        return "\n".join(lines)

    @property
    def document(self) -> dict[str, Any]:
        """The same for programs; chat services show `text`."""
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
                for job in self.jobs[:SHOWN_JOBS]
            ],
        }


@dataclass(frozen=True)
class TroubleNews:
    """Troubles that last, and on which node."""

    ae_title: str
    host: str
    troubles: Sequence[Trouble]

    @property
    def headline(self) -> str:
        """One line for a subject."""
        kinds = ", ".join(dict.fromkeys(trouble.kind for trouble in self.troubles))
        return f"{self.ae_title} on {self.host}: not in order ({kinds})"

    @property
    def text(self) -> str:
        """A sentence for each trouble; no identity."""
        return "\n".join([f"{self.headline}.", "", *(trouble.text for trouble in self.troubles)])

    @property
    def document(self) -> dict[str, Any]:
        """The same for programs; chat services show `text`."""
        return {
            "event": "troubles",
            "text": self.text,
            "node": self.ae_title,
            "host": self.host,
            "troubles": [
                {"kind": item.kind, "severity": item.severity.value, "text": item.text}
                for item in self.troubles
            ],
        }


class Message(Protocol):
    """What a channel can tell."""

    @property
    def headline(self) -> str:
        """One line for a subject."""

    @property
    def text(self) -> str:
        """The whole, for people."""

    @property
    def document(self) -> dict[str, Any]:
        """The whole, for programs."""


class Channel(Protocol):
    """A way to tell somebody."""

    @property
    def name(self) -> str:
        """What it is called in the log."""

    def tell(self, news: Message) -> None:
        """Tell the news.

        Raises:
            PeerError: They did not get through.
        """
