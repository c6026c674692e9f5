"""Schema of ``rules.yaml``, with types and limits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from dicom_node.rules.condition import Condition
from dicom_node.rules.outcome import Decision, Skip
from dicom_node.settings.denoising import NoiseWanted
from dicom_node.settings.sections import Section
from dicom_node.settings.values import AeTitle, Name
from dicom_node.work_order import Incomplete, Priority, WorkOrder

TESTS = frozenset(Condition.model_fields) - {"keyword"}

MAX_NAME_CHARACTERS = 64
"""The ledger keeps the name with the job."""


def _conditions(match: object) -> object:
    """Add the keyword to each condition; a plain value or list is short for ``equals``."""
    if not isinstance(match, dict):
        return match
    return {str(keyword): _condition(str(keyword), tests) for keyword, tests in match.items()}


def _condition(keyword: str, tests: Any) -> dict[str, Any]:
    given = tests if isinstance(tests, dict) else {"equals": tests}
    return {**given, "keyword": keyword}


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _nothing_said(value: object) -> object:
    """Read ``denoise:`` without a value as denoising as configured in node.yaml."""
    return {} if value is None else value


def _none_given(value: object) -> object:
    return () if value is None else value


Conditions = Annotated[dict[str, Condition], BeforeValidator(_conditions)]
AeTitles = Annotated[tuple[AeTitle, ...], BeforeValidator(_listed)]


class Overrides(NoiseWanted):
    """Values of a work order that a rule sets; node.yaml has those that it leaves out.

    Attributes:
        model: Name of the denoiser, or path of its card.
        strength: 0 to 1.
        destinations: Names of peers.
        priority: Order among waiting jobs.
        incomplete: Treatment of a series with missing slices.
    """

    model: Name | None = None
    strength: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    destinations: Annotated[
        Annotated[tuple[Name, ...], Field(min_length=1)] | None, BeforeValidator(_listed)
    ] = None
    priority: Literal["urgent", "normal", "off_peak"] = "normal"
    incomplete: Incomplete = "skip"

    def applied_to(self, default: WorkOrder, rule: str) -> WorkOrder:
        """Return the default order with the values of this rule.

        The default noise belongs to the default model; another model has that of its card.
        """
        given = {
            "model": self.model,
            "strength": self.strength,
            "dose_gain": self.dose_gain,
            "target_noise_hu": self.target_noise_hu,
            "destinations": self.destinations,
        }
        if self.model not in (None, default.model) or self.required_gain is not None:
            default = replace(default, dose_gain=None, target_noise_hu=None)
        return replace(
            default,
            **{key: value for key, value in given.items() if value is not None},  # type: ignore[arg-type]
            priority=Priority[self.priority.upper()],
            incomplete=self.incomplete,
            rule=rule,
        )


class Rule(Section):
    """One rule: conditions, and the decision about a series that meets them.

    Attributes:
        name: Name in logs, the ledger and ``dicom-node rules test``; by default the rule's number.
        match: Conditions on the headers, all of which every image must meet; empty for any series.
        source_ae: AE titles of senders; empty for any.
        skip: Reason to skip the series.
        denoise: Work order to denoise it.
    """

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARACTERS)] = ""
    match: Conditions = {}  # noqa: RUF012 - pydantic copies it
    source_ae: AeTitles = ()
    skip: Name | None = None
    denoise: Annotated[Overrides | None, BeforeValidator(_nothing_said)] = None

    @model_validator(mode="after")
    def _decides_one_thing(self) -> Self:
        if (self.skip is None) == (self.denoise is None):
            raise ValueError("give either `skip: reason` or `denoise: {...}`")
        return self

    def decision(self, default: WorkOrder) -> Decision:
        """Return the decision about a series that this rule matches."""
        if self.denoise is None:
            return Skip(self.skip or "", rule=self.name)
        return self.denoise.applied_to(default, self.name)


class Rules(Section):
    """The site's rules, in order; the first that matches wins."""

    rules: Annotated[tuple[Rule, ...], BeforeValidator(_none_given)] = ()

    @field_validator("rules")
    @classmethod
    def _names_are_unique(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        named = tuple(
            rule if rule.name else rule.model_copy(update={"name": f"rule {place}"})
            for place, rule in enumerate(rules, start=1)
        )
        twice = [name for name, count in Counter(one.name for one in named).items() if count > 1]
        if twice:
            raise ValueError(f"the name {twice[0]!r} occurs twice, give each rule its own")
        return named
