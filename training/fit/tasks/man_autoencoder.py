"""Stage one of MAN as a task of the training loop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from man_core.hu import HuRange
from man_core.nets.autoencoder import Autoencoder, initialise_linear_path
from man_core.nets.man import ManConfig
from man_core.quality import SOFT_TISSUE, psnr
from training.data.batch import Batch, BatchSource, joined
from training.errors import TrainingError
from training.fit.task import Moment, RunFacts, Validation, side_by_side
from training.fit.tasks.initial import initial_weights, load_weights_into, restore_part
from training.objectives.autoencoder import AutoencoderObjective, autoencoder_loss
from training.objectives.perceptual import perceptual_features
from training.settings import read_objective

PCA_BATCHES = 16
"""Batches of patches for the principal components of the linear path."""

POSTERIOR_NOISE_HU = 1.0
"""Noise of a pixel from sampling the initial posterior."""


class AutoencoderTask:
    """Trains the autoencoder to reproduce full-dose and low-dose crops alike (decision 0002)."""

    def __init__(self, config: ManConfig, objective: dict[str, Any], device: torch.device) -> None:
        self.device = device
        self.config = config
        self.model = Autoencoder(config.autoencoder).to(device)
        self.objective = read_objective(AutoencoderObjective, objective)
        weights = self.objective.perceptual_weights
        self.features = perceptual_features(Path(weights) if weights else None).to(device)
        self.initialised = False

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return all parameters of the autoencoder."""
        return self.model.parameters()

    def networks(self) -> Sequence[nn.Module]:
        """Return encoder and decoder; the features of eq. 2 join late in the fit."""
        return [self.model.encoder, self.model.decoder]

    def initialise(self, path: Path) -> None:
        """Start from the autoencoder of a run or of a model.

        Raises:
            TrainingError: There is no such autoencoder, or its shape differs from the recipe's.
        """
        weights = initial_weights(path)
        load_weights_into(self.model, weights.autoencoder, weights.source)
        self.initialised = True

    def start(self, source: BatchSource) -> None:
        """Set the linear path to the principal components of the data."""
        if self.config.autoencoder.linear_path and not self.initialised:
            patches = torch.cat([self._patches(source.batch(i)) for i in range(PCA_BATCHES)])
            span = HuRange()
            noise = POSTERIOR_NOISE_HU * 2 / (span.high - span.low)
            initialise_linear_path(self.model, patches, noise)

    def _patches(self, batch: Batch) -> Tensor:
        factor = self.config.autoencoder.factor
        x = HuRange().to_network(torch.cat((batch.full, batch.low)).to(self.device))
        patches = x.unfold(2, factor, factor).unfold(3, factor, factor)
        return patches.reshape(-1, factor * factor)

    def loss(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Compute eq. 3 on both doses."""
        hu = torch.cat((batch.full, batch.low))
        return autoencoder_loss(
            self.model, self.features, hu, self.objective, moment.progress, moment.generator
        )

    @torch.no_grad()
    def validate(self, batches: Sequence[Batch]) -> Validation:
        """Measure the reconstruction of full dose and low dose."""
        held_out = joined(batches)
        full, low = held_out.full, held_out.low
        through_full, through_low = self._through(full), self._through(low)
        scalars = {
            "psnr_full": psnr(through_full[:, 0].numpy(), full[:, 0].numpy(), SOFT_TISSUE),
            "psnr_low": psnr(through_low[:, 0].numpy(), low[:, 0].numpy(), SOFT_TISSUE),
            "mae_full_hu": float((through_full - full).abs().mean()),
            "bias_full_hu": float((through_full - full).mean()),
        }
        pictures = {"full": side_by_side((full[0, 0], through_full[0, 0]), SOFT_TISSUE)}
        return Validation({"score": scalars["mae_full_hu"], **scalars}, pictures)

    def _through(self, hu: Tensor) -> Tensor:
        span = HuRange()
        posterior = self.model.encode(span.to_network(hu.to(self.device)))
        return span.to_hu(self.model.decode(posterior.mean)).cpu()

    def state_dict(self) -> dict[str, Any]:
        """Return the parameters of the autoencoder."""
        return {"autoencoder": self.model.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict``."""
        restore_part(self.model, state, "autoencoder")

    def export(self, folder: Path, facts: RunFacts) -> Path:
        """Refuse: an autoencoder alone is no denoiser.

        Raises:
            TrainingError: Always.
        """
        raise TrainingError(
            "An autoencoder alone is no denoiser; fit man-diffusion with --init on this run."
        )
