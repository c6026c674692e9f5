"""Verdicts of the checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dicom_node.errors import NodeError

OK, WARNING, FAILED = "ok", "warning", "failed"


class CheckWarning(NodeError):  # noqa: N818 - a warning, not an error
    """The node works, but this needs attention before it stops working."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check.

    Attributes:
        what: The subject of the check.
        verdict: ``OK``, ``WARNING`` (the node works, but needs attention) or ``FAILED``.
        detail: One sentence: the finding, and what to do about it.
    """

    what: str
    verdict: str
    detail: str


Check = tuple[str, Callable[[], str]]
"""The subject of a check, and a function that returns the finding or raises."""

Checks = Iterator[Check]


def run_check(check: Check) -> Verdict:
    """Run one check."""
    what, find = check
    try:
        return Verdict(what, OK, find())
    except CheckWarning as warning:
        return Verdict(what, WARNING, str(warning))
    except NodeError as error:
        return Verdict(what, FAILED, str(error))
