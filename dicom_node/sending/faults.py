"""Why images did not arrive, in one sentence, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_node.errors import NodeError, PeerError
from dicom_node.sending.ports import SendResult


class NotStored(PeerError):  # noqa: N818 - the name says what happened
    """Images were refused or got no answer.

    Attributes:
        some_stored: Whether the destination took others, so that it is not away.
    """

    def __init__(
        self, message: str, *, transient: bool, counted: bool = False, some_stored: bool
    ) -> None:
        super().__init__(message, transient=transient, counted=counted)
        self.some_stored = some_stored


def not_stored(destination: str, results: Sequence[SendResult]) -> NotStored:
    """The fault of a go in which not every image was stored.

    A lasting refusal of one image is not cured by waiting for the others. Where a peer that is
    there takes none, an attempt is spent; where it takes some, there is progress.
    """
    refused = [result for result in results if not result.ok]
    lasting = [result for result in refused if not result.transient]
    worst = (lasting or refused)[0]
    some_stored = len(refused) < len(results)
    return NotStored(
        f"{destination}: {len(refused)} of {len(results)} images not stored, {worst.sentence}.",
        transient=worst.transient,
        counted=not lasting and not some_stored and not all(item.away for item in refused),
        some_stored=some_stored,
    )


def is_absence(error: Exception) -> bool:
    """Whether a fault says that the destination (or this node's disk) is away for any delivery.

    A peer that is there and breaks associations off, or answers nonsense, is not away.
    """
    if isinstance(error, NotStored) and error.some_stored:
        return False
    return isinstance(error, NodeError) and error.transient and not error.counted
