"""Stages two and three of MAN as a task of the training loop; the encoder is frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from man_core.card import ModelCard
from man_core.denoisers.latent_sampler import latent_sampler, max_steps
from man_core.diffusion.names import SAMPLERS
from man_core.hu import HuRange
from man_core.nets.man import ManConfig, ManNetwork
from man_core.quality import SOFT_TISSUE, psnr
from training.data.batch import Batch, BatchSource, joined
from training.errors import TrainingError
from training.fit.planted_batch import planted
from training.fit.sampling_steps import card_steps
from training.fit.task import Moment, RunFacts, Validation, side_by_side
from training.fit.tasks.export import export_model
from training.fit.tasks.initial import initial_weights, load_weights_into, restore_part
from training.objectives.bound import bound_loss
from training.objectives.gain import draw_gain
from training.objectives.latent_diffusion import DiffusionObjective
from training.objectives.lesions import Lesions, draw_lesions
from training.objectives.perceptual import perceptual_features
from training.objectives.restoration import restoration_loss
from training.settings import read_objective

STATISTICS_BATCHES = 16
"""Batches for the mean and standard deviation of latents (decision 0002) and of their noise."""

VALIDATION_STEPS = (1, 4)
"""Numbers of sampling steps in validation."""

VALIDATION_SEED = 0
"""Seed of the starting noise in validation."""

MAY_START_FRESH = ("detail.",)
"""Prefixes of parameters that earlier weights may lack."""

DEFAULT_DOSE_GAIN = 4.0
"""The default in the card of a network that is told it: from a quarter dose to full dose."""


Again = Callable[[Batch], Tensor]
"""Restores other crops of the batch with the same gain and random numbers, without gradients."""


class DiffusionTask:
    """Trains the U-Net to predict the clean latent from its noisy version and the low dose."""

    def __init__(self, config: ManConfig, objective: dict[str, Any], device: torch.device) -> None:
        self.device = device
        self.network = ManNetwork(config).to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = read_objective(DiffusionObjective, objective)
        self._freeze()
        self.latent_loss = bound_loss(config, device)
        self.initialised = self.measured = False

    def _freeze(self) -> None:
        """Freeze stage one, except the decoder if the decoded result is compared (stage three)."""
        stage_one, wanted = self.network.autoencoder, self.objective.restoration
        stage_one.requires_grad_(False)
        if wanted is None:
            return
        weights = wanted.feature_weights
        self.features = perceptual_features(Path(weights) if weights else None).to(self.device)
        stage_one.decoder.requires_grad_(True)
        if stage_one.synthesis is not None:
            stage_one.synthesis.requires_grad_(True)

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return the parameters of U-Net and detail path; in stage three also the decoder's."""
        return [value for value in self.network.parameters() if value.requires_grad]

    def networks(self) -> Sequence[nn.Module]:
        """Return encoder and U-Net; in stage three also decoder, detail path and features."""
        stage_one = self.network.autoencoder
        networks: list[nn.Module] = [stage_one.encoder, self.network.unet]
        if self.objective.restoration is not None:
            networks += [stage_one.decoder, self.features]
            networks += [self.network.detail] if self.network.detail is not None else []
        return networks

    def initialise(self, path: Path) -> None:
        """Start from the autoencoder of a stage-one run, or from a stage-two run or model.

        Raises:
            TrainingError: There is no such run or model, or its shape differs from the recipe's.
        """
        weights = initial_weights(path)
        if weights.network is None or self.objective.fresh_unet:
            load_weights_into(self.network.autoencoder, weights.autoencoder, weights.source)
        else:
            load_weights_into(self.network, weights.network, weights.source, self._fresh())
            self.measured = True
        self.initialised = True

    def _fresh(self) -> tuple[str, ...]:
        added = (*self.network.gain_parameters(), *self.network.context_parameters())
        return (*MAY_START_FRESH, *added)

    @torch.no_grad()
    def start(self, source: BatchSource) -> None:
        """Measure mean, standard deviation and noise of the latents.

        Those of a complete network are kept: its U-Net was trained with them.

        Raises:
            TrainingError: There is no trained autoencoder.
        """
        if not self.initialised:
            raise TrainingError(
                "man-diffusion needs a trained autoencoder; name its run or a model with --init."
            )
        if self.measured:
            return
        batches = [source.batch(i).to(self.device) for i in range(STATISTICS_BATCHES)]
        full = torch.cat([self._raw_latent(batch.full) for batch in batches])
        low = torch.cat([self._raw_latent(batch.low) for batch in batches])
        over = (0, 2, 3)
        std = full.std(dim=over, keepdim=True)
        self.network.latent_mean.copy_(full.mean(dim=over, keepdim=True))
        self.network.latent_std.copy_(std)
        self.network.residual_scale.copy_(
            (low - full).square().mean(over, keepdim=True).sqrt() / std
        )

    def _raw_latent(self, hu: Tensor) -> Tensor:
        return self.network.autoencoder.encode(HuRange().to_network(hu)).mean

    def _encode(self, hu: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return self.network.encode(HuRange().to_network(hu))

    def loss(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Compute eq. 7, or its counterpart for the parametrization of the recipe."""
        lesions, gain, bare = None, None, batch
        if self.objective.lesions:
            lesions = draw_lesions(batch.full, self.objective.lesions, moment.generator)
            batch = planted(batch, lesions, moment.generator)
        full = batch.full
        if self.network.gain is not None:
            gain, wanted = draw_gain(
                batch.full, batch.low, batch.dose, self.objective.gain_share, moment.generator
            )
            batch = replace(batch, full=wanted)
        again = partial(self._again, gain, moment.generator.clone_state())
        terms, predicted, condition = self._predict(batch, gain, moment.generator)
        if self.objective.restoration is None:
            return terms
        more = restoration_loss(
            self.features,
            self._decode(predicted, condition, batch.low, gain, self._neighbours(batch)),
            batch.low,
            batch.full,
            batch.noise_hu,
            self.objective.restoration,
            moment.generator,
            lesions,
            self._unplanted(bare, batch.full, lesions, again),
            self._opposed(batch, full, again),
        )
        loss = self.objective.latent * terms["loss"] + more["restoration"]
        return {**terms, **more, "loss": loss}

    def _predict(
        self, batch: Batch, gain: Tensor | None, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Return the terms of the latent loss, the clean latent predicted and the condition."""
        clean, condition = self._encode(torch.cat((batch.full, batch.low))).chunk(2)
        neighbours = self._neighbours(batch)
        terms, predicted = self.latent_loss(
            self.network,
            clean=clean,
            condition=condition,
            position=batch.position,
            objective=self.objective,
            generator=generator,
            gain=gain,
            beside=self._beside(batch.low, neighbours),
        )
        return terms, predicted, condition

    def _unplanted(
        self, bare: Batch, full: Tensor, lesions: Lesions | None, again: Again
    ) -> Tensor | None:
        """Restore the crops as before lesions were planted; ``full`` is as loud as is wanted."""
        wanted = self.objective.restoration
        if lesions is None or wanted is None or wanted.transfer == 0:
            return None
        return again(replace(bare, full=full - lesions.hu))

    def _opposed(self, batch: Batch, full: Tensor, again: Again) -> Tensor | None:
        """Restore the crops with noise of the opposite sign."""
        wanted = self.objective.restoration
        if wanted is None or wanted.noise_shape == 0:
            return None
        return again(replace(batch, low=2 * full - batch.low))

    @torch.no_grad()
    def _again(self, gain: Tensor | None, generator: torch.Generator, batch: Batch) -> Tensor:
        """Restore other crops with the random numbers drawn before."""
        _, predicted, condition = self._predict(batch, gain, generator.clone_state())
        return self._decode(predicted, condition, batch.low, gain, self._neighbours(batch))

    def _neighbours(self, batch: Batch) -> Tensor | None:
        """Return the neighbouring slices as the network takes them."""
        if batch.neighbours is None:
            return None
        return HuRange().to_network(batch.neighbours).to(self.device)

    def _beside(self, low: Tensor, neighbours: Tensor | None) -> Tensor | None:
        return self.network.beside(HuRange().to_network(low), neighbours)

    def _decode(
        self,
        clean: Tensor,
        condition: Tensor,
        low: Tensor,
        gain: Tensor | None,
        neighbours: Tensor | None,
    ) -> Tensor:
        span, x = HuRange(), HuRange().to_network(low)
        return span.to_hu(self.network.reconstruct(clean, condition, x, gain, neighbours))

    @torch.no_grad()
    def validate(self, batches: Sequence[Batch]) -> Validation:
        """Measure PSNR of few-step sampling and of the low dose against full dose."""
        held_out = joined(batches)
        full, low = held_out.full, held_out.low
        most = max_steps(self.network.config)
        counts = [min(count, most) for count in VALIDATION_STEPS]
        results = {count: self._restore(held_out, count) for count in counts}
        scalars = {"psnr_low": psnr(low[:, 0].numpy(), full[:, 0].numpy(), SOFT_TISSUE)}
        for count, result in results.items():
            scalars[f"psnr_{count}"] = psnr(result[:, 0].numpy(), full[:, 0].numpy(), SOFT_TISSUE)
        scalars["bias_hu"] = float((results[VALIDATION_STEPS[0]] - full).mean())
        row = [crop[0, 0] for crop in (low, *results.values(), full)]
        score = -scalars[f"psnr_{VALIDATION_STEPS[0]}"]
        return Validation(
            {"score": score, **scalars}, {"low_results_full": side_by_side(row, SOFT_TISSUE)}
        )

    def _restore(self, crops: Batch, count: int) -> Tensor:
        """Restore the low dose of crops to their full dose, on the CPU."""
        low, gain = crops.low.to(self.device), (1.0 / crops.dose).to(self.device)
        condition, neighbours = self._encode(low), self._neighbours(crops)
        generator = torch.Generator().manual_seed(VALIDATION_SEED)
        sampler = latent_sampler(self.network, SAMPLERS[self.network.config.diffusion][0], count)
        z = sampler.sample(
            condition,
            crops.position.to(self.device),
            lambda like: torch.randn(like.shape, generator=generator).to(like),
            gain=gain,
            beside=self._beside(low, neighbours),
        )
        return self._decode(z, condition, low, gain, neighbours).cpu()

    def state_dict(self) -> dict[str, Any]:
        """Return both stages and the statistics of the latents."""
        return {"network": self.network.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict``."""
        restore_part(self.network, state, "network")

    def export(self, folder: Path, facts: RunFacts) -> Path:
        """Write weights and card."""
        config = self.network.config
        card = ModelCard(
            name="man",
            version="",
            method="man",
            summary="MAN, latent diffusion denoising of low-dose CT, compact.",
            sampler=SAMPLERS[config.diffusion][0],
            steps=card_steps(config, restored=self.objective.restoration is not None),
            dose_gain=DEFAULT_DOSE_GAIN if config.gain_channels else None,
            context_slices=config.context_slices,
        )
        return export_model(card, self.network, config.to_dict(), folder, facts)
