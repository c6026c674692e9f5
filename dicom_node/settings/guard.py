"""Settings under ``guard`` in ``node.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from dicom_node.settings.sections import Section
from man_core import GuardLimits, Limit

MAX_SEEDS = 64


def _limits(value: Mapping[str, tuple[float, float]]) -> Mapping[str, tuple[float, float]]:
    known = GuardLimits.__dataclass_fields__
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not a check of the guard, use one of {sorted(known)}")
    guard_limits(value)
    return value


def _seeds(value: int) -> int:
    if value == 1:
        raise ValueError("one seed has no spread, use 0 or at least 2")
    return value


def guard_limits(changed: Mapping[str, tuple[float, float]]) -> GuardLimits:
    """Return the default limits with those that a site has changed.

    Raises:
        ValueError: A limit is negative, or blocks before it flags.
    """
    return GuardLimits(**{name: Limit(*pair) for name, pair in changed.items()})


class GuardSettings(Section):
    """Checks of denoised results, and the action on implausible ones.

    Attributes:
        action: ``block`` holds results back that a finding blocks, ``flag`` sends and reports
            them, ``off`` disables the checks.
        seeds: Number of seeds for the spread of each series; each costs one run.
        limits: Limits that differ from the default, by check: where to flag and where to block.
    """

    action: Literal["block", "flag", "off"] = "block"
    seeds: Annotated[int, Field(ge=0, le=MAX_SEEDS), AfterValidator(_seeds)] = 0
    limits: Annotated[dict[str, tuple[float, float]], AfterValidator(_limits)] = Field(
        default_factory=dict
    )
