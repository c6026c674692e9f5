"""Provenance of a derived series: the model, its settings, and the labels of the series."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from dicom_node.canonical import canonical_json
from dicom_node.description_suffix import check_suffix, fill_suffix
from dicom_node.errors import ConfigurationError
from dicom_node.product import MODEL_NAME, PRODUCT_VERSION

if TYPE_CHECKING:
    from man_core import ModelCard


FOR_COMPARISON = "This model is for comparison with others, not for reading. "
"""Part of the Derivation Description of results of such a model."""


@dataclass(frozen=True)
class DeriveOptions:
    """A site's labelling of its derived series.

    Attributes:
        series_number_offset: Added to the source's Series Number.
        description_suffix: Appended to the source's Series Description, which is cut to make room;
            ``{model}``, ``{strength}`` and ``{dose_gain}`` in it are filled in.
        image_type: Second value of Image Type; many viewers show SECONDARY as screenshots.
        equipment: ``standard`` names this node in General Equipment and the scanner in Contributing
            Equipment, as PS3.3 C.12.1.1.5 says; ``keep_scanner`` the other way round.

    Raises:
        ConfigurationError: The suffix is not valid in every character set.
    """

    series_number_offset: int = 1000
    description_suffix: str = " MAN"
    image_type: Literal["PRIMARY", "SECONDARY"] = "PRIMARY"
    equipment: Literal["standard", "keep_scanner"] = "standard"

    def __post_init__(self) -> None:
        try:
            check_suffix(self.description_suffix)
        except ValueError as error:
            raise ConfigurationError(f"derived.description_suffix is wrong: {error}.") from error


@dataclass(frozen=True)
class Provenance:
    """Everything that determined the pixels, apart from the source.

    Attributes:
        model: Registry name of the model.
        version: Version of its weights.
        weights_sha256: Hash of its weights; empty for a method without weights.
        digest: ``ModelCard.digest``.
        steps: Sampling steps.
        strength: Share of the denoised image in the blend in HU, 0 to 1.
        seed: Seed of the starting noise.
        product_version: Version of this product.
        dose_gain: Noise that was left, as if from so many times the dose; None: the model is not
            told it.
        default_gain: Default dose gain of the model's card, which its digest covers.
        for_comparison: Whether the model is there for comparison, and not for reading.
    """

    model: str
    version: str
    weights_sha256: str
    digest: str
    steps: int
    strength: float
    seed: int
    product_version: str = PRODUCT_VERSION
    dose_gain: float | None = None
    default_gain: float | None = None
    for_comparison: bool = False

    @classmethod
    def of(
        cls,
        card: ModelCard,
        *,
        steps: int,
        strength: float,
        seed: int,
        dose_gain: float | None = None,
    ) -> Provenance:
        """Return the provenance of results of the model with this card.

        Args:
            card: The card.
            steps: Sampling steps.
            strength: 0 to 1.
            seed: Seed of the starting noise.
            dose_gain: The dose gain wanted; None: the default of the card.

        Raises:
            man_core.ModelError: The model cannot be told this dose gain.
        """
        return cls(
            model=card.name,
            version=card.version,
            weights_sha256=card.weights_sha256,
            digest=card.digest,
            steps=steps,
            strength=strength,
            seed=seed,
            dose_gain=card.dose_gain_for(dose_gain),
            default_gain=card.dose_gain,
            for_comparison=card.for_comparison,
        )

    def key(self, options: DeriveOptions) -> str:
        """Return a hash over card and settings, from which the derived UIDs are computed.

        The product's version is left out: the same work after an update makes no second copy. So
        is the default dose gain, which the card's digest covers.
        Equal numbers give the same hash whether they are integers or floats: offline, and in a
        node on SQLite or PostgreSQL.
        """
        strength = float(self.strength)
        deciding: tuple[object, ...] = (
            self.digest,
            int(self.steps),
            strength,
            int(self.seed),
            asdict(options),
        )
        if self.dose_gain != self.default_gain:
            deciding = (*deciding, {"dose_gain": self.dose_gain})
        return hashlib.sha256(canonical_json(deciding).encode()).hexdigest()

    def suffix(self, options: DeriveOptions) -> str:
        """Return the suffix for the Series Description of results."""
        return fill_suffix(
            options.description_suffix,
            model=self.model,
            strength=float(self.strength),
            dose_gain=self.dose_gain,
            default_gain=self.default_gain,
        )

    def description(self) -> str:
        """Return one paragraph for Derivation Description (at most 1024 characters)."""
        weights = f", weights sha256 {self.weights_sha256[:16]}" if self.weights_sha256 else ""
        gain = "" if self.dose_gain is None else f"dose gain {self.dose_gain:g}, "
        purpose = FOR_COMPARISON if self.for_comparison else ""
        return (
            f"AI noise reduction in image space by {MODEL_NAME} {self.product_version}: "
            f"model {self.model} {self.version}{weights}, card {self.digest[:16]}, "
            f"strength {self.strength:g}, {gain}{self.steps} steps, seed {self.seed}. "
            f"{purpose}Read together with the original images."
        )
