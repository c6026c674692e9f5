"""What became of one image that was sent, and whether sending it again can help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SUCCESS = 0x0000
DUPLICATE_INSTANCE = 0x0111
"""The peer has this SOP instance already (PS3.7, C.5.12): what was to be reached is reached."""

NO_CONTEXT = 0x0122
"""SOP class not supported; also used here when the peer accepted no fitting transfer syntax."""

_WARNINGS = range(0xB000, 0xC000)
_PROCESSING_FAILURE = 0x0110
_RESOURCE_LIMITATION = 0x0213
_OUT_OF_RESOURCES = range(0xA700, 0xA800)

_MEANINGS: tuple[tuple[range, str], ...] = (
    (_OUT_OF_RESOURCES, "the peer is out of resources"),
    (range(_RESOURCE_LIMITATION, _RESOURCE_LIMITATION + 1), "the peer is out of resources"),
    (range(0xA900, 0xAA00), "the data set does not match its SOP class"),
    (range(0xC000, 0xD000), "the peer cannot understand the data set"),
    (range(_PROCESSING_FAILURE, _PROCESSING_FAILURE + 1), "the peer failed in processing"),
    (
        range(NO_CONTEXT, NO_CONTEXT + 1),
        "the peer does not accept this SOP class or transfer syntax",
    ),
    (range(0x0124, 0x0125), "the peer does not authorise this node to store"),
)


@dataclass(frozen=True)
class SendResult:
    """What became of one file.

    Attributes:
        path: The file.
        sop_instance_uid: Its SOP Instance UID.
        status: DIMSE status (PS3.4, table B.2-1); None when the peer did not say.
        words: Why there is no status: what the peer did instead, as a clause.
        silent: Whether there is no status because the peer fell silent or cannot be reached.
    """

    path: Path
    sop_instance_uid: str
    status: int | None
    words: str = ""
    silent: bool = False

    @property
    def ok(self) -> bool:
        """Whether the peer has the instance: success, a warning, or it had it before."""
        return self.status in (SUCCESS, DUPLICATE_INSTANCE) or self.status in _WARNINGS

    @property
    def transient(self) -> bool:
        """Whether sending the same file later can succeed."""
        return (
            self.status is None
            or self.status in (_PROCESSING_FAILURE, _RESOURCE_LIMITATION)
            or self.status in _OUT_OF_RESOURCES
        )

    @property
    def away(self) -> bool:
        """Whether the peer says, or shows, that it takes nothing for the time being."""
        if self.status is None:
            return self.silent
        return self.status == _RESOURCE_LIMITATION or self.status in _OUT_OF_RESOURCES

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        if self.ok:
            return "stored"
        if self.status is None:
            return f"the peer {self.words}" if self.words else "the peer gave no answer"
        meaning = next(
            (text for codes, text in _MEANINGS if self.status in codes), "the peer refused it"
        )
        return f"{meaning} (status 0x{self.status:04X})"
