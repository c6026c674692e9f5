"""The keys under ``guard`` in ``node.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from dicom_node.settings.sections import Section
from man_core import GuardLimits, Limit

MOST_SEEDS = 64


def _limits(value: Mapping[str, tuple[float, float]]) -> Mapping[str, tuple[float, float]]:
    known = GuardLimits.__dataclass_fields__
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no check of the guard, name one of {sorted(known)}")
    guard_limits(value)
    return value


def _seeds(value: int) -> int:
    if value == 1:
        raise ValueError("one seed has no spread, take 0 or at least 2")
    return value


def guard_limits(changed: Mapping[str, tuple[float, float]]) -> GuardLimits:
    """The limits of the core, with those that a site has changed.

    Raises:
        ValueError: A limit is negative, or blocks before it flags.
    """
    return GuardLimits(**{name: Limit(*pair) for name, pair in changed.items()})


class GuardSettings(Section):
    """What follows from an implausible result.

    Attributes:
        action: ``block`` sends nothing that a finding blocks, ``flag`` sends and reports it,
            ``off`` does not look.
        seeds: Over how many seeds the spread of each series is taken; each costs a run.
        limits: Those that differ from the default, by check: from where to flag and to block.
    """

    action: Literal["block", "flag", "off"] = "block"
    seeds: Annotated[int, Field(ge=0, le=MOST_SEEDS), AfterValidator(_seeds)] = 0
    limits: Annotated[dict[str, tuple[float, float]], AfterValidator(_limits)] = Field(
        default_factory=dict
    )
