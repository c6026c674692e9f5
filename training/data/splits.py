"""Assignment of patients to splits: always whole patients, never slices."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from dicom_node.yaml_document import RepeatedKey, load_yaml
from training.data.manifest import SPLITS
from training.errors import RecipeError

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
SplitOf = Callable[[str], str | None]


class SplitFile(BaseModel):
    """File of a split: ``config/splits/<set>.yaml``.

    Attributes:
        patients: Split by patient ID.
        others: Split of all other patients; without it they are left out.
    """

    model_config = ConfigDict(extra="forbid")

    patients: dict[str, str]
    others: str | None = None


def known_split(name: str) -> str:
    """Require a name to be that of a split, and return it.

    Raises:
        RecipeError: There is no such split.
    """
    if name not in SPLITS:
        raise RecipeError(f"There is no split {name!r}; use one of {', '.join(SPLITS)}.")
    return name


def split_by_hash(seed: int = 0) -> SplitOf:
    """Split 80 / 10 / 10 by a seeded hash of the patient ID, stable when patients are added."""

    def choose(patient_id: str) -> str:
        digest = hashlib.sha256(f"{seed}:{patient_id}".encode()).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        for name, share in SHARES.items():
            place -= share
            if place < 0:
                return name
        return SPLITS[-1]

    return choose


def split_by_name(name: str) -> SplitOf:
    """Assign every patient to one split."""
    split = known_split(name)
    return lambda _patient_id: split


def split_by_file(path: Path) -> SplitOf:
    """Split according to a YAML file; None for patients that it leaves out.

    Raises:
        RecipeError: The file cannot be read or names an unknown split.
    """
    try:
        table = SplitFile.model_validate(load_yaml(path.read_text(encoding="utf-8")))
    except RepeatedKey as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1  # no patient ID is repeated
        raise RecipeError(
            f"The split file {path} cannot be used: line {line} repeats a key; keep one."
        ) from error
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise RecipeError(
            f"The split file {path} cannot be used; it must contain `patients:` with a split for "
            f"each patient ID ({type(error).__name__})."
        ) from error
    for name in {*table.patients.values(), *([table.others] if table.others else [])}:
        known_split(name)
    return lambda patient_id: table.patients.get(patient_id, table.others)
