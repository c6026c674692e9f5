"""Which rule takes a series. Pure: headers in, decision out.

No rule can switch off what can never be denoised here: our own work (the loop guard), other
modalities, colour, localizers, pixels that are not in Hounsfield units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pydicom import Dataset

from dicom_node.ct.scope import reason_out_of_scope, reason_unprocessable
from dicom_node.rules.document import Rule
from dicom_node.rules.outcome import Decision, Denoise, Skip


@dataclass(frozen=True)
class Explanation:
    """A decision, and how it came about.

    Attributes:
        decision: What becomes of the series.
        passed: Name of each rule that was looked at before, and why it does not take the series.
    """

    decision: Decision
    passed: tuple[tuple[str, str], ...] = ()


def decide(
    headers: Sequence[Dataset],
    *,
    otherwise: Denoise,
    rules: Sequence[Rule] = (),
    source_ae: str = "",
) -> Decision:
    """Decide about one series.

    A series is skipped when none of its images is for us. One that mixes such images with others
    is not: its job tells the operator what is wrong with it, instead of passing over it in silence.

    Args:
        headers: The headers of its readable images, pixels not needed.
        otherwise: The work for a series that no rule names and nothing speaks against.
        rules: The site's rules; the first that matches wins.
        source_ae: AE title of the sender.
    """
    return explain(headers, otherwise=otherwise, rules=rules, source_ae=source_ae).decision


def explain(
    headers: Sequence[Dataset],
    *,
    otherwise: Denoise,
    rules: Sequence[Rule] = (),
    source_ae: str = "",
) -> Explanation:
    """Decide about one series as :func:`decide` does, and say why no earlier rule took it."""
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
    """Why a rule does not take a series, one objection after another."""
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
