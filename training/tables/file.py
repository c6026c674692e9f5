"""Definition of a table as YAML: rows, cases and the numbers printed in a paper."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dicom_node.yaml_document import RepeatedKey, load_yaml
from training.data.manifest import SPLITS
from training.errors import RecipeError
from training.settings import faults_in, recipe_folder

VARIABLE = re.compile(r"\$\{(\w+)\}")
ENVIRONMENT_PREFIX = "MAN_TRAIN_"
"""Prefix of environment variables: ``MAN_TRAIN_SET`` is a value for ``${SET}`` in a table."""

EXAM = "exam"
"""Window that selects for each slice the window of the exam that it shows."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CasesSettings(_Strict):
    """Source of cases: a training set, or two folders of real pairs.

    Attributes:
        set: Training set, of which the split of the table is used with simulated low dose.
        doses: Doses to simulate; for real pairs their dose.
        name: Name of the real pairs.
        low: DICOM folder of low dose.
        full: DICOM folder of full dose at the same positions.
        slices: Maximum number of slices per series.
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


class RowFit(_Strict):
    """Fit that the model of a row comes from.

    Attributes:
        recipe: Name of a recipe, or path of a YAML file.
        init: Run, card, exported folder or model name to start from.
        data: Training set.
        run: Name of the folder of the run; None: the row's. Rows with one run are fitted once.
    """

    recipe: str
    init: str | None = None
    data: str = "${SET}"
    run: str | None = None


class MethodSettings(_Strict):
    """One row of the table; the untouched low dose is always the first.

    Attributes:
        row: Name of the row; selects a classical method if there is no model.
        model: Registry name, card, exported folder or run of a model, or folder of denoised images.
        steps: Sampling steps instead of the card's.
        sampler: Sampler instead of the card's.
        ceiling: Whether to reconstruct full dose by the autoencoder alone, instead of the model.
        fit: Fit that makes the model where it is not given.
    """

    row: str
    model: str | None = None
    steps: int | None = Field(default=None, ge=1)
    sampler: str | None = None
    ceiling: bool = False
    fit: RowFit | None = None


class PrintedRow(_Strict):
    """A row printed in a paper, shown beside our row of the same name.

    Attributes:
        row: Method.
        psnr_db: Printed PSNR, dB.
        ssim: Printed SSIM.
        lpips: Printed LPIPS.
        seconds: Printed time for the whole test set of the paper.
    """

    row: str
    psnr_db: float
    ssim: float
    lpips: float
    seconds: float | None = None


class Printed(_Strict):
    """A table printed in a paper.

    Attributes:
        source: Paper and number of the table.
        rows: Its rows in order.
    """

    source: str
    rows: tuple[PrintedRow, ...]


class Subject(_Strict):
    """Row that is compared with all others.

    Attributes:
        row: Its name.
        regression: Row whose PSNR it is compared with.
    """

    row: str
    regression: str | None = None


class Tolerance(_Strict):
    """Tolerated loss of quality of a cheaper row against a reference row.

    Attributes:
        row: Reference row.
        psnr_db: Loss of PSNR, dB.
        ssim: Loss of SSIM.
        lpips: Increase of LPIPS.
    """

    row: str
    psnr_db: float = 0.1
    ssim: float = 0.003
    lpips: float = 0.005


class Variable(_Strict):
    """Variable of a table, for paths that depend on the machine.

    Attributes:
        about: Its meaning, for the user.
        default: Default value.
    """

    about: str
    default: str | None = None


class TableFile(_Strict):
    """Definition of one table.

    Attributes:
        title: Heading.
        split: Split of the patients; named in the rows.
        final: Whether it is measured once, at the end, and must not be used for choices.
        variables: Variables ``${NAME}`` in paths.
        cases: Sources of cases.
        windows: Names of windows, ``LOW,HIGH`` in HU, or ``exam``.
        methods: Rows.
        printed: Table printed in a paper.
        subject: Row that is compared with all others.
        tolerance: For tables of steps, tolerated loss of the cheapest row.
        remarks: Remarks for the reader, one paragraph each.
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
        RecipeError: There is no such table, or it is invalid; all faults are named at once.
    """
    folder = recipe_folder().parent / "tables"
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise RecipeError(f"There is no table {name!r}; use one of {known}, or a path to a .yaml.")
    try:
        return TableFile.model_validate(load_yaml(path.read_text(encoding="utf-8")))
    except RepeatedKey as error:
        raise RecipeError(f"The table {path} is invalid: {error.problem}.") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"The table {path} is not valid YAML.") from error
    except ValidationError as error:
        raise RecipeError(f"The table {path} is invalid: {faults_in(error)}.") from error


def filled(
    table: TableFile,
    given: Mapping[str, str],
    without: tuple[str, ...] = (),
    runs: Mapping[str, Path] = MappingProxyType({}),
) -> TableFile:
    """Fill in the variables of a table and remove rows.

    Args:
        table: Table as read.
        given: Values by name; missing ones are taken from the environment.
        without: Rows to remove.
        runs: Run of each row whose model is fitted; of other rows no variable of a fit is needed.

    Raises:
        RecipeError: A value is missing or unknown, or a row to remove does not exist.
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
            "methods": tuple(
                _from_run(m, runs[m.row], fill)
                if m.row in runs
                else m.model_copy(update={"model": fill(m.model), "fit": None})
                for m in methods
            ),
        }
    )


def _from_run(
    method: MethodSettings, run: Path, fill: Callable[[str | None], str | None]
) -> MethodSettings:
    fit = method.fit
    if fit:
        fit = fit.model_copy(update={"init": fill(fit.init), "data": fill(fit.data)})
    return method.model_copy(update={"model": str(run), "fit": fit})


def has_values(table: TableFile, text: str, given: Mapping[str, str]) -> bool:
    """Return whether every variable in a text has a value."""
    return all(_found(table, name, given) for name in VARIABLE.findall(text))


def _known(what: str, wanted: Mapping[str, str] | tuple[str, ...], known: object) -> None:
    assert isinstance(known, list | dict)
    if strange := [name for name in wanted if name not in known]:
        raise RecipeError(f"The table has no {what} {strange[0]!r}; it has {', '.join(known)}.")


def _value(table: TableFile, name: str, given: Mapping[str, str]) -> str:
    value, about = _found(table, name, given), table.variables.get(name)
    if not value:
        words = f" ({about.about})" if about else ""
        raise RecipeError(
            f"The table needs {name}{words}; give --set {name}=… or the environment variable"
            f" {ENVIRONMENT_PREFIX}{name}."
        )
    return value


def _found(table: TableFile, name: str, given: Mapping[str, str]) -> str | None:
    value, about = given.get(name) or os.environ.get(ENVIRONMENT_PREFIX + name), table.variables
    return value or (about[name].default if name in about else None)
