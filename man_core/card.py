"""Model cards: what a model is, was trained on, measured and may be used for. Torch-free."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from man_core.hu import HuRange

NO_SAMPLER = "none"
"""Sampler of a method that does not sample."""


@dataclass(frozen=True)
class Measurement:
    """One measured row of a card, beside which the untouched low-dose row always stands.

    Attributes:
        split: Data split file and subset, for example ``validation/L096``.
        dose: Fraction of full dose of the input.
        window_hu: Window of the metrics, (low, high) HU.
        row: What was measured: ``low dose``, ``man`` or another method.
        psnr_db: Peak signal to noise ratio, dB.
        ssim: Structural similarity (Gaussian 1.5 pixels).
        lpips: LPIPS, AlexNet v0.1, on the windowed image.
        slices: How many slices were averaged.
    """

    split: str
    dose: float
    window_hu: tuple[float, float]
    row: str
    psnr_db: float
    ssim: float
    lpips: float
    slices: int


@dataclass(frozen=True)
class ModelCard:
    """A model as its users see it; stored as JSON beside the weights.

    Attributes:
        name: Registry name, for example ``man``.
        version: Version of the fitted weights.
        method: Which denoiser class reads the weights, for example ``man``.
        summary: One sentence for a list of models.
        weights_file: File name beside the card; empty for methods without weights.
        weights_sha256: Checked at every load.
        sampler: Name of the sampler used by default.
        steps: Default number of sampling steps.
        parameters: Number of fitted values.
        hu_range: What the network sees as [-1, 1].
        trained_on: Data, patients and slices, how the low dose was made.
        intended_use: What the model may be used for.
        limits: Known limits, one sentence each.
        licence: Licence of the weights.
        credits: Collections and people to credit.
        measurements: Measured rows, low dose included.
    """

    name: str
    version: str
    method: str
    summary: str
    weights_file: str = ""
    weights_sha256: str = ""
    sampler: str = "ddim"
    steps: int = 1
    parameters: int = 0
    hu_range: HuRange = field(default_factory=HuRange)
    trained_on: str = ""
    intended_use: str = ""
    limits: tuple[str, ...] = ()
    licence: str = "Apache-2.0"
    credits: tuple[str, ...] = ()
    measurements: tuple[Measurement, ...] = ()

    @property
    def digest(self) -> str:
        """Sha256 over what decides the output: method, weights, range, sampler and steps.

        A range written ``-1024`` and one written ``-1024.0`` in the card's file are the same.
        """
        deciding = (
            self.method,
            self.weights_sha256,
            float(self.hu_range.low),
            float(self.hu_range.high),
            self.sampler,
            int(self.steps),
        )
        return hashlib.sha256(json.dumps(deciding).encode()).hexdigest()

    def to_json(self) -> str:
        """The card as indented JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Read a card back.

        Raises:
            ValueError: The text is not a card.
        """
        try:
            return cls(**_typed(json.loads(text)))
        except (TypeError, KeyError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"not a model card: {error}") from error

    @classmethod
    def load(cls, path: Path) -> ModelCard:
        """Read the card in a file."""
        return cls.from_json(path.read_text(encoding="utf-8"))


def _typed(fields: dict[str, Any]) -> dict[str, Any]:
    rows = fields.get("measurements", ())
    return {
        **fields,
        "hu_range": HuRange(**fields["hu_range"]),
        "limits": tuple(fields.get("limits", ())),
        "credits": tuple(fields.get("credits", ())),
        "measurements": tuple(
            Measurement(**{**row, "window_hu": tuple(row["window_hu"])}) for row in rows
        ),
    }
