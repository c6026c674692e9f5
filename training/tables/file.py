"""A table as data: what is measured, on what, and what a paper printed, as YAML."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from training.data.manifest import SPLITS
from training.errors import RecipeError
from training.settings import faults_in, recipe_folder

VARIABLE = re.compile(r"\$\{(\w+)\}")
ENVIRONMENT_PREFIX = "MAN_TRAIN_"
"""``${SET}`` in a table is also looked for as the environment variable ``MAN_TRAIN_SET``."""

EXAM = "exam"
"""As a window: each slice in the window of the exam that it shows."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CasesSettings(_Strict):
    """Where cases come from: a training set, or two folders of real pairs.

    Attributes:
        set: Training set, of which the table's split is taken and low dose simulated.
        doses: Doses to simulate; of real pairs the one they were scanned at.
        name: What real pairs are called.
        low: Folder of DICOM files at low dose.
        full: Folder of the same places at full dose.
        slices: At most so many slices of a series.
    """

    set: str | None = None
    doses: tuple[float, ...] = Field(min_length=1)
    name: str = ""
    low: str | None = None
    full: str | None = None
    slices: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_source(self) -> CasesSettings:
        pairs = bool(self.low and self.full and self.name) and len(self.doses) == 1
        if bool(self.set) == pairs or (self.set and (self.low or self.full)):
            raise ValueError("give either set, or name, low and full with the one dose of low")
        return self


class MethodSettings(_Strict):
    """One row of the table; the untouched low dose comes first in any case.

    Attributes:
        row: What the row is called; a classical method is chosen by its name.
        model: Registry name, card, exported folder or run of a model.
        steps: Sampling steps instead of the card's.
        sampler: Sampler instead of the card's.
        ceiling: Full dose through the model's autoencoder alone, instead of the model.
    """

    row: str
    model: str | None = None
    steps: int | None = Field(default=None, ge=1)
    sampler: str | None = None
    ceiling: bool = False


class PrintedRow(_Strict):
    """A row that a paper printed; it stands beside our row of the same name.

    Attributes:
        row: The method.
        psnr_db: dB.
        ssim: As printed.
        lpips: As printed.
        seconds: For the paper's whole test set.
    """

    row: str
    psnr_db: float
    ssim: float
    lpips: float
    seconds: float | None = None


class Printed(_Strict):
    """What a paper printed.

    Attributes:
        source: Paper and number of its table.
        rows: Its rows, in its order.
    """

    source: str
    rows: tuple[PrintedRow, ...]


class Subject(_Strict):
    """A row that is held against all others.

    Attributes:
        row: Its name.
        regression: The row whose PSNR it is held against.
    """

    row: str
    regression: str | None = None


class Tolerance(_Strict):
    """How much quality a cheaper row may lose against another one.

    Attributes:
        row: The row that is lost against.
        psnr_db: dB.
        ssim: As a difference.
        lpips: As a difference.
    """

    row: str
    psnr_db: float = 0.1
    ssim: float = 0.003
    lpips: float = 0.005


class Variable(_Strict):
    """What stands for a place of one machine in a table.

    Attributes:
        about: What it is, for who has to give it.
        default: Its value where none is given.
    """

    about: str
    default: str | None = None


class TableFile(_Strict):
    """One table.

    Attributes:
        title: Its heading.
        split: Which patients; names the rows.
        final: Measured once, at the end: nothing may be chosen by it.
        variables: What ``${NAME}`` stands for.
        cases: Where the images come from.
        windows: Names of windows, ``LOW,HIGH`` in HU, or ``exam``.
        methods: Its rows.
        printed: What a paper printed.
        subject: The row that is held against all others.
        tolerance: For tables of steps: how much the cheapest row may lose.
        remarks: What a reader should know, one paragraph each.
    """

    title: str
    split: str
    final: bool = False
    variables: dict[str, Variable] = {}
    cases: tuple[CasesSettings, ...] = Field(min_length=1)
    windows: tuple[str, ...] = ("soft",)
    methods: tuple[MethodSettings, ...] = ()
    printed: Printed | None = None
    subject: Subject | None = None
    tolerance: Tolerance | None = None
    remarks: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> TableFile:
        if self.split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}")
        if self.split == "test" and not self.final:
            raise ValueError("a table of the test split must be final")
        rows = [method.row for method in self.methods]
        if len(set(rows)) < len(rows):
            raise ValueError("each row needs a name of its own")
        return self


def load_table(name: str) -> TableFile:
    """Read a table by its name or by the path of a YAML file.

    Raises:
        RecipeError: No such table, or something in it is wrong; all faults are named at once.
    """
    folder = recipe_folder().parent / "tables"
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise RecipeError(f"there is no table {name!r}: use one of {known}, or a path to a .yaml")
    try:
        return TableFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise RecipeError(f"the table {path} is not valid YAML") from error
    except ValidationError as error:
        raise RecipeError(f"the table {path} is wrong: {faults_in(error)}") from error


def filled(table: TableFile, given: Mapping[str, str], without: tuple[str, ...] = ()) -> TableFile:
    """The table with values for its variables and without the rows that are left out.

    Args:
        table: As read.
        given: Values by name; the environment fills what is missing.
        without: Rows to leave out.

    Raises:
        RecipeError: A value is missing or not asked for, or a row to leave out is not there.
    """
    _known("row", without, [method.row for method in table.methods])
    _known("variable", given, table.variables)
    methods = [method for method in table.methods if method.row not in without]

    def fill(text: str | None) -> str | None:
        return text and VARIABLE.sub(lambda found: _value(table, found[1], given), text)

    return table.model_copy(
        update={
            "cases": tuple(
                c.model_copy(update={key: fill(getattr(c, key)) for key in ("set", "low", "full")})
                for c in table.cases
            ),
            "methods": tuple(m.model_copy(update={"model": fill(m.model)}) for m in methods),
        }
    )


def _known(what: str, wanted: Mapping[str, str] | tuple[str, ...], known: object) -> None:
    assert isinstance(known, list | dict)
    if strange := [name for name in wanted if name not in known]:
        raise RecipeError(f"the table has no {what} {strange[0]!r}: it has {', '.join(known)}")


def _value(table: TableFile, name: str, given: Mapping[str, str]) -> str:
    about = table.variables.get(name)
    value = given.get(name) or os.environ.get(ENVIRONMENT_PREFIX + name)
    if not value and about:
        value = about.default
    if not value:
        words = f" ({about.about})" if about else ""
        raise RecipeError(
            f"the table needs {name}{words}: give --set {name}=… or the environment variable"
            f" {ENVIRONMENT_PREFIX}{name}"
        )
    return value
