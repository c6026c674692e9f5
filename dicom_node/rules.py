"""What to do with a complete series. Pure: headers in, decision out.

Site rules (``rules.yaml``) are not read yet; this is the decision for what no rule names: an
original axial CT series is denoised, everything else is left alone with a reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset

from dicom_node.ct.checks import why_not


@dataclass(frozen=True)
class Skip:
    """Leave the series alone."""

    reason: str


@dataclass(frozen=True)
class Denoise:
    """Denoise the series.

    Attributes:
        model: Name of the denoiser.
        strength: 0 (untouched) to 1 (the model's full result).
        destinations: Names of the peers that get the derived series.
    """

    model: str
    strength: float
    destinations: tuple[str, ...]


def decide(headers: Sequence[Dataset], *, otherwise: Denoise) -> Skip | Denoise:
    """Decide about one series.

    A series is skipped when none of its images is for us. One that mixes such images with others
    is not: its job tells the operator what is wrong with it, instead of passing over it in silence.

    Args:
        headers: The headers of its readable images, pixels not needed.
        otherwise: The work for a series that nothing speaks against.
    """
    reasons = [_why_not(header) for header in headers]
    if None in reasons:
        return otherwise
    commonest = Counter(reasons).most_common(1)
    return Skip(commonest[0][0] or "" if commonest else "none of its files can be read as DICOM")


def _why_not(header: Dataset) -> str | None:
    try:
        return why_not(header)
    except (ValueError, TypeError, AttributeError, KeyError, NotImplementedError):
        return "damaged headers"
