"""What an attempt of ``check`` comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dicom_node.errors import NodeError

OK, WARNING, FAILED = "ok", "warning", "failed"


class Doubt(NodeError):  # noqa: N818 - the name says what it is
    """The node works, but somebody should look at this before it does not."""


@dataclass(frozen=True)
class Verdict:
    """What was tried and how it went.

    Attributes:
        verdict: ``OK``, ``WARNING`` (the node works, but look) or ``FAILED``.
        detail: One sentence: what was found, and what to do about it.
    """

    what: str
    verdict: str
    detail: str


Attempt = tuple[str, Callable[[], str]]
"""What is tried, and how: it returns what was found, or raises."""

Attempts = Iterator[Attempt]


def judge(attempt: Attempt) -> Verdict:
    """Try one thing."""
    what, look = attempt
    try:
        return Verdict(what, OK, look())
    except Doubt as doubt:
        return Verdict(what, WARNING, str(doubt))
    except NodeError as error:
        return Verdict(what, FAILED, str(error))
