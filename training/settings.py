"""Recipes of a fit as YAML, validated without unknown keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dicom_node.yaml_document import RepeatedKey, load_yaml
from man_core.context import MAX_CONTEXT_SLICES
from training.errors import RecipeError

Objective = TypeVar("Objective", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DataSettings(_Strict):
    """Sampling of crops.

    Attributes:
        crop: Side of the square crops, pixels.
        batch: Crops per batch.
        lowest_dose: Minimum simulated fraction of full dose.
        highest_dose: Maximum; doses are uniform in their logarithm.
        highest_noise_hu: Maximum noise added to a crop, HU, which raises its dose. A tenth of the
            dose with a sharp kernel has about 120 HU, thin slices of a screening scan 200 HU.
        untouched_share: Share of crops whose low-dose partner is the full-dose crop itself.
        sharper_share: Share of crops with the texture of a sharper kernel: the full dose gets the
            noise that such a kernel would leave in it. Without them a network learns that sharp
            noise never belongs to a full dose.
        smoother_share: Share of crops with the texture of a smoother kernel: the full dose is
            filtered to it and has less noise, and its low dose gets noise of that texture.
        coarser_share: Share of crops from a field of view twice as wide: every second pixel, as in
            a reconstruction with pixels twice as large.
        any_texture_share: Share of simulated noise with any texture instead of that of the series.
        texture_jitter: Spread of the texture around that of the series, as standard deviation of
            the logarithm of the cutoff.
        amplitude_jitter: Spread of the amplitude, as standard deviation of its logarithm.
        real_share: Share of crops from real pairs, if the set contains any.
        body_share: Minimum share of pixels above -500 HU in a crop; emptier crops are redrawn.
        context_slices: Slices below, and as many above, that come with each crop; as the model's.
    """

    crop: int = Field(default=192, ge=16, multiple_of=16)
    batch: int = Field(default=12, ge=1)
    lowest_dose: float = Field(default=0.05, gt=0, lt=1)
    highest_dose: float = Field(default=0.77, gt=0, lt=1)
    highest_noise_hu: float = Field(default=150.0, gt=0)
    untouched_share: float = Field(default=0.05, ge=0, le=1)
    sharper_share: float = Field(default=0.0, ge=0, le=1)
    smoother_share: float = Field(default=0.0, ge=0, le=1)
    coarser_share: float = Field(default=0.0, ge=0, le=1)
    any_texture_share: float = Field(default=0.25, ge=0, le=1)
    texture_jitter: float = Field(default=0.1, ge=0)
    amplitude_jitter: float = Field(default=0.1, ge=0)
    real_share: float = Field(default=0.5, ge=0, le=1)
    body_share: float = Field(default=0.2, ge=0, lt=1)
    context_slices: int = Field(default=0, ge=0, le=MAX_CONTEXT_SLICES)

    @model_validator(mode="after")
    def _rising(self) -> DataSettings:
        if self.lowest_dose > self.highest_dose:
            raise ValueError("lowest_dose must not exceed highest_dose")
        return self


class FitSettings(_Strict):
    """Optimisation.

    Attributes:
        steps: Optimiser steps of a complete fit.
        accumulate: Batches whose gradients are averaged into one step.
        learning_rate: Maximum learning rate, reached after the warm-up.
        last_learning_rate: Learning rate at the end of the cosine.
        warmup_steps: Steps of linear warm-up.
        weight_decay: Decoupled weight decay of AdamW.
        betas: Decay rates of the moments of AdamW.
        clip: Maximum norm of the gradient.
        ema: Decay of the averaged weights per step.
        amp: bfloat16 autocast if the processor supports bfloat16; not for autoencoders, whose
            errors are smaller.
        tf32: Whether a GPU may round float32 factors of convolutions and products to TF32.
        compile: Whether ``torch.compile`` fuses the layers of the networks. It takes a minute or
            more at the start and needs a C++ compiler, on a GPU Triton.
        bad_steps: Consecutive non-finite steps after which the fit stops.
    """

    steps: int = Field(ge=1)
    accumulate: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=2e-4, gt=0)
    last_learning_rate: float = Field(default=1e-5, ge=0)
    warmup_steps: int = Field(default=200, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = Field(default=1.0, gt=0)
    ema: float = Field(default=0.999, ge=0, lt=1)
    amp: bool = False
    tf32: bool = True
    compile: bool = False
    bad_steps: int = Field(default=20, ge=1)


class ValidationSettings(_Strict):
    """Validation during a fit.

    Attributes:
        every: Steps between validations.
        batches: Batches of crops of the validation split; 0 turns validation off.
        dose: Simulated fraction of full dose of every crop.
    """

    every: int = Field(default=500, ge=1)
    batches: int = Field(default=2, ge=0)
    dose: float = Field(default=0.25, gt=0, lt=1)


class JournalSettings(_Strict):
    """Output during a fit.

    Attributes:
        log_every: Steps between lines of ``metrics.jsonl``.
        save_seconds: Seconds between checkpoints.
    """

    log_every: int = Field(default=20, ge=1)
    save_seconds: float = Field(default=120.0, ge=0)


class Recipe(_Strict):
    """Recipe of one fit.

    Attributes:
        method: Task, a key of ``training.fit.tasks.build.TASKS``.
        seed: Seed of all random numbers.
        model: Networks; interpreted by the task.
        objective: Loss terms; interpreted by the task.
        data: Sampling of crops.
        fit: Optimisation.
        validation: Validation during the fit.
        journal: Output during the fit.
    """

    method: str
    seed: int = 0
    model: dict[str, Any] = {}
    objective: dict[str, Any] = {}
    data: DataSettings = DataSettings()
    fit: FitSettings
    validation: ValidationSettings = ValidationSettings()
    journal: JournalSettings = JournalSettings()


def recipe_folder() -> Path:
    """Return the folder of the recipes: in the installed package, else in the source tree."""
    installed = Path(__file__).parent / "config" / "train"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "config" / "train"


def load_recipe(name: str) -> Recipe:
    """Read a recipe by its name or by the path of a YAML file.

    Raises:
        RecipeError: There is no such recipe, or it is invalid; all faults are named at once.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else recipe_folder() / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in recipe_folder().glob("*.yaml")))
        raise RecipeError(f"There is no recipe {name!r}; use one of {known}, or a path to a .yaml.")
    try:
        return Recipe.model_validate(load_yaml(path.read_text(encoding="utf-8")))
    except RepeatedKey as error:
        raise RecipeError(f"The recipe {path} is invalid: {error.problem}.") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"The recipe {path} is not valid YAML.") from error
    except ValidationError as error:
        raise RecipeError(f"The recipe {path} is invalid: {faults_in(error)}.") from error


def read_objective(kind: type[Objective], values: dict[str, Any]) -> Objective:
    """Validate the objective of a recipe.

    Raises:
        RecipeError: A key is unknown or a value is wrong; all faults are named.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"The recipe's objective is invalid: {faults_in(error)}.") from error


def faults_in(error: ValidationError) -> str:
    """List every fault that pydantic found, each with the key that it is in."""
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'the whole'}: {fault['msg']}"
        for fault in error.errors()
    )
