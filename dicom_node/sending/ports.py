"""What the sender needs of the network; ``dicom_node.sending.routes`` has the real one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from dicom_node.sending.outcome import SendResult
from dicom_node.settings import PeerSettings, WebPeerSettings

ShouldStop = Callable[[], bool]


class Report(Protocol):
    """What a peer says of a request for storage commitment."""

    @property
    def transaction_uid(self) -> str:
        """Of the request."""

    @property
    def committed(self) -> Collection[str]:
        """SOP Instance UIDs that it has committed to."""

    @property
    def failed(self) -> Mapping[str, int]:
        """SOP Instance UIDs that it has not, with its failure reason."""


class Session(Protocol):
    """Sends the files it was opened for."""

    def send(self, should_stop: ShouldStop) -> Iterator[SendResult]:
        """One result a file, in order; ends early when told to stop.

        Raises:
            PeerError: The peer cannot be reached or refuses.
        """


class CommittingSession(Session, Protocol):
    """A session with a peer that commits to what it stores."""

    def ask_commitment(
        self,
        transaction_uid: str,
        files: Sequence[Path],
        *,
        on_report: Callable[[Report], int],
        wait_seconds: float,
    ) -> None:
        """Ask the peer to commit to files, and wait a little for its report.

        Raises:
            PeerError: The peer cannot be reached or does not take the request.
        """


class Transport(Protocol):
    """The ways to other systems."""

    def open(
        self, peer: PeerSettings | WebPeerSettings, files: Sequence[Path]
    ) -> AbstractContextManager[Session]:
        """A session that sends files to a peer; raises ``UnreadableFile``."""

    def open_committing(
        self, peer: PeerSettings, files: Sequence[Path]
    ) -> AbstractContextManager[CommittingSession]:
        """The same, with storage commitment."""

    def report(
        self,
        peer: PeerSettings,
        transaction_uid: str,
        items: Sequence[tuple[str, str]],
        held: Collection[str],
    ) -> None:
        """Report to a peer which of the instances it asked about this node holds.

        Args:
            peer: Who asked.
            transaction_uid: As it was asked.
            items: SOP Class UID and SOP Instance UID of each.
            held: SOP Instance UIDs, of those, that this node has.

        Raises:
            PeerError: The peer cannot be reached or does not take the report.
        """
