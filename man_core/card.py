"""Model cards: identity, training data, measurements and intended use of a model. Torch-free."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from man_core.ancestry import Ancestor, chain, read_chain
from man_core.context import check_context
from man_core.dose_gain import MAX_DOSE_GAIN, MIN_DOSE_GAIN
from man_core.errors import ModelError
from man_core.hu import HuRange
from man_core.texture import Texture

NO_SAMPLER = "none"
"""Sampler name of a method that does not sample."""

Precision = Literal["float32", "tf32", "bfloat16"]
"""Arithmetic of a network. ``tf32``: convolutions and matrix products of a GPU round their factors
to 10 bits; a CPU computes them in float32. ``bfloat16``: the sampled network alone, since encoding
and decoding would be quantised to several HU; the rest is float32."""


@dataclass(frozen=True)
class PrecisionDeviation:
    """Measured difference of results in some precision from float32 on a CPU.

    Attributes:
        precision: The precision.
        device: Hardware on which it was measured, and with what.
        mean_hu: Mean of the absolute difference, HU.
        max_hu: Its maximum.
    """

    precision: Precision
    device: str
    mean_hu: float
    max_hu: float


@dataclass(frozen=True)
class Measurement:
    """One measured row of a card; the row of the untouched low dose is always among them.

    Attributes:
        split: Data split file and subset, for example ``validation/L096``.
        dose: Fraction of full dose of the input.
        window_hu: Window of the metrics, (low, high) HU.
        row: Method that was measured: ``low dose``, ``man`` or another.
        psnr_db: Peak signal to noise ratio, dB.
        ssim: Structural similarity (Gaussian 1.5 pixels).
        lpips: LPIPS, AlexNet v0.1, on the windowed image.
        slices: Number of slices averaged.
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
    """Description of a model for its users; stored as JSON beside the weights.

    Attributes:
        name: Registry name, for example ``man``.
        version: Version of the fitted weights.
        method: Denoiser that reads the weights, a key of ``registry.METHODS``.
        summary: One sentence for a list of models.
        weights_file: File name beside the card; empty for methods without weights.
        weights_sha256: Hash of the weights, verified at every load.
        sampler: Name of the sampler used by default.
        steps: Default number of sampling steps.
        parameters: Number of trainable parameters.
        hu_range: HU that the network sees as [-1, 1].
        trained_on: Data set, patients and slices, and the origin of the low dose.
        intended_use: Permitted use of the model.
        limits: Known limitations, one sentence each.
        licence: Licence of the weights.
        credits: Data collections and people to credit.
        measurements: Measured rows, low dose included.
        precision: Arithmetic used by default.
        deviations: Measured deviations of other precisions, or of other devices.
        dose_gain: Dose gain by default (``Condition.dose_gain``); None: the model is not told it.
        texture: Fine noise of the source that a result keeps; None: what the network leaves.
        started_from: Weights that the fit started from and their own origins, the newest first.
        context_slices: Slices below, and as many above, that the model sees beside each; 0: none.
        for_comparison: Whether the model is there for comparison, and not for reading.
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
    precision: Precision = "float32"
    deviations: tuple[PrecisionDeviation, ...] = ()
    dose_gain: float | None = None
    texture: Texture | None = None
    started_from: tuple[Ancestor, ...] = ()
    context_slices: int = 0
    for_comparison: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 over what determines the output.

        Method, weights, range, sampler, steps, the precision if it is not float32, the dose gain
        of a model that is told it, and the texture of one that keeps some.
        A range written as ``-1024`` or ``-1024.0`` in the card gives the same digest.
        """
        deciding: tuple[str | float, ...] = (
            self.method,
            self.weights_sha256,
            float(self.hu_range.low),
            float(self.hu_range.high),
            self.sampler,
            int(self.steps),
        )
        if self.precision != "float32":
            deciding = (*deciding, self.precision)
        if self.dose_gain is not None:
            deciding = (*deciding, "dose gain", float(self.dose_gain))
        if self.texture is not None:
            kept = float(self.texture.share), float(self.texture.sigma_pixels)
            deciding = (*deciding, "texture", *kept)
        return hashlib.sha256(json.dumps(deciding).encode()).hexdigest()

    def dose_gain_for(self, wanted: float | None) -> float | None:
        """Return the dose gain in force.

        Args:
            wanted: A dose gain; None: the default.

        Returns:
            The gain wanted, or the default; None for a model that is not told it.

        Raises:
            ModelError: The model cannot be told a dose gain, or this one is out of range.
        """
        if self.dose_gain is None:
            if wanted is not None:
                raise ModelError(
                    f"Model {self.name!r} cannot be told a dose gain: ask for none, or use a model"
                    " whose card has a `dose_gain`."
                )
            return None
        gain = self.dose_gain if wanted is None else wanted
        if not MIN_DOSE_GAIN <= gain <= MAX_DOSE_GAIN:
            raise ModelError(
                f"The dose gain must be from {MIN_DOSE_GAIN:g} to {MAX_DOSE_GAIN:g}, not {gain:g}."
            )
        return gain

    def lineage(self) -> tuple[Ancestor, ...]:
        """Return what a fit has as ancestors that starts from this model: it and its own."""
        own = Ancestor(
            self.name,
            self.digest,
            self.trained_on,
            self.licence,
            self.credits,
            self.weights_sha256,
        )
        return chain(own, self.started_from)

    def to_json(self) -> str:
        """Return the card as indented JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Parse a card.

        Raises:
            ValueError: The text is not a model card.
        """
        try:
            return cls(**_typed(json.loads(text)))
        except (TypeError, KeyError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"not a model card: {error}") from error

    @classmethod
    def load(cls, path: Path) -> ModelCard:
        """Read a card from a file."""
        return cls.from_json(path.read_text(encoding="utf-8"))


def _typed(fields: dict[str, Any]) -> dict[str, Any]:
    rows, texture = fields.get("measurements", ()), fields.get("texture")
    precision = fields.get("precision", "float32")
    if precision not in get_args(Precision):
        raise ValueError(f"not a model card: unknown precision {precision!r}")
    check_context(fields.get("context_slices", 0))
    if not isinstance(fields.get("for_comparison", False), bool):
        raise ValueError("not a model card: for_comparison must be true or false")
    return {
        **fields,
        "hu_range": HuRange(**fields["hu_range"]),
        "limits": tuple(fields.get("limits", ())),
        "credits": tuple(fields.get("credits", ())),
        "measurements": tuple(
            Measurement(**{**row, "window_hu": tuple(row["window_hu"])}) for row in rows
        ),
        "texture": None if texture is None else Texture(**texture),
        "started_from": read_chain(fields.get("started_from", ())),
        "deviations": tuple(PrecisionDeviation(**row) for row in fields.get("deviations", ())),
    }
