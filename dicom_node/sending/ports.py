"""Interfaces of the sender to the network; ``dicom_node.sending.routes`` implements them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from dicom_node.sending.outcome import SendResult
from dicom_node.settings import PeerSettings, WebPeerSettings

ShouldStop = Callable[[], bool]


class Report(Protocol):
    """A peer's report on a request for storage commitment."""

    @property
    def transaction_uid(self) -> str:
        """Of the request."""

    @property
    def committed(self) -> Collection[str]:
        """SOP Instance UIDs to which it has committed."""

    @property
    def failed(self) -> Mapping[str, int]:
        """Failure reason by SOP Instance UID of those to which it has not."""


class Session(Protocol):
    """Sends the files it was opened for."""

    def send(self, should_stop: ShouldStop) -> Iterator[SendResult]:
        """Yield one result per file, in order; end early on ``should_stop``.

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
        """Request storage commitment for files, and wait briefly for the report.

        Raises:
            PeerError: The peer cannot be reached or does not take the request.
        """


class Transport(Protocol):
    """Routes to other systems."""

    def open(
        self, peer: PeerSettings | WebPeerSettings, files: Sequence[Path]
    ) -> AbstractContextManager[Session]:
        """Open a session that sends files to a peer; raises ``UnreadableFile``."""

    def open_committing(
        self, peer: PeerSettings, files: Sequence[Path]
    ) -> AbstractContextManager[CommittingSession]:
        """Open a session with storage commitment."""

    def report(
        self,
        peer: PeerSettings,
        transaction_uid: str,
        items: Sequence[tuple[str, str]],
        held: Collection[str],
    ) -> None:
        """Report to a peer the instances, of those it asked about, that this node holds.

        Args:
            peer: The requester.
            transaction_uid: Of the request.
            items: SOP Class UID and SOP Instance UID of each.
            held: SOP Instance UIDs, of those, that this node has.

        Raises:
            PeerError: The peer cannot be reached or does not take the report.
        """
