"""Decision about a series as a pure function of its headers and the rules.

No rule can include what this node never denoises: its own results (loop guard), other modalities,
colour, localizers, and pixels that are not in Hounsfield units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pydicom import Dataset

from dicom_node.ct.scope import reason_out_of_scope, reason_unprocessable
from dicom_node.rules.document import Rule
from dicom_node.rules.outcome import Decision, Skip
from dicom_node.work_order import WorkOrder


@dataclass(frozen=True)
class Explanation:
    """A decision with its reasons.

    Attributes:
        decision: The decision.
        passed: Name of each earlier rule, and why it does not match.
    """

    decision: Decision
    passed: tuple[tuple[str, str], ...] = ()


def decide(
    headers: Sequence[Dataset],
    *,
    otherwise: WorkOrder,
    rules: Sequence[Rule] = (),
    source_ae: str = "",
) -> Decision:
    """Decide about one series.

    A series is skipped when all of its images are out of scope. If only some are, it is not: its
    job then reports the fault to the operator instead of ignoring the series silently.

    Args:
        headers: Headers of its readable images, without pixels.
        otherwise: Work on a series in scope that no rule matches.
        rules: The site's rules; the first that matches wins.
        source_ae: AE title of the sender.
    """
    return explain(headers, otherwise=otherwise, rules=rules, source_ae=source_ae).decision


def explain(
    headers: Sequence[Dataset],
    *,
    otherwise: WorkOrder,
    rules: Sequence[Rule] = (),
    source_ae: str = "",
) -> Explanation:
    """Decide as :func:`decide` does, with the reasons why earlier rules do not match."""
    images = [header for header in headers if _reason(reason_unprocessable, header) is None]
    if not images:
        return Explanation(Skip(_commonest(reason_unprocessable, headers)))
    passed: list[tuple[str, str]] = []
    for rule in rules:
        objection = next(_objections(rule, images, source_ae), None)
        if objection is None:
            return Explanation(rule.decision(otherwise), tuple(passed))
        passed.append((rule.name, objection))
    if all(_reason(reason_out_of_scope, header) for header in headers):
        return Explanation(Skip(_commonest(reason_out_of_scope, headers)), tuple(passed))
    return Explanation(otherwise, tuple(passed))


def _objections(rule: Rule, images: Sequence[Dataset], source_ae: str) -> Iterator[str]:
    """Yield the reasons why a rule does not match."""
    if rule.source_ae and source_ae not in rule.source_ae:
        yield f"sent by {source_ae or 'an unknown AE title'}, not by {' or '.join(rule.source_ae)}"
    for condition in rule.match.values():
        found = [text for image in images if (text := condition.objection(image)) is not None]
        if found:
            part = f" (in {len(found)} of {len(images)} images)" if len(found) < len(images) else ""
            yield found[0] + part


def _commonest(check: Callable[[Dataset], str | None], headers: Sequence[Dataset]) -> str:
    reasons = Counter(_reason(check, header) for header in headers).most_common(1)
    return reasons[0][0] or "" if reasons else "none of its files can be read as DICOM"


def _reason(check: Callable[[Dataset], str | None], header: Dataset) -> str | None:
    try:
        return check(header)
    except (ValueError, TypeError, AttributeError, KeyError, NotImplementedError):
        return "damaged headers"
