"""What was done to one series, for people and programs; without the patient's identity."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from man_core import DenoiseReport


@dataclass(frozen=True)
class RunReport:
    """One series from source to derived files.

    Attributes:
        source_series_uid: Series Instance UID of the source.
        derived_series_uid: Series Instance UID of the result.
        files: The derived files, in slice order.
        regular: Whether the source's slices lie at one spacing.
        product_version: Version of this product.
        denoise: What the denoiser reported.
        missing: Which slices the source lacked; empty when nothing is known to be missing.
    """

    source_series_uid: str
    derived_series_uid: str
    files: tuple[Path, ...]
    regular: bool
    product_version: str
    denoise: DenoiseReport
    missing: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; files by their number only, as paths can hold names."""
        return {
            "source_series_uid": self.source_series_uid,
            "derived_series_uid": self.derived_series_uid,
            "files": len(self.files),
            "regular_spacing": self.regular,
            "missing": self.missing,
            "product_version": self.product_version,
            **self.denoise.to_dict(),
        }

    def to_json(self) -> str:
        """The report as indented JSON."""
        return json.dumps(self.to_dict(), indent=2) + "\n"
