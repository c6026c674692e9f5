"""Arguments and options of ``man-train``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from man_core import SAMPLERS

Inputs = Annotated[
    list[Path], Argument(metavar="IN…", help="Folders of DICOM files, or of NIfTI files in HU.")
]
SetFolder = Annotated[Path, Argument(metavar="SET", help="Folder of the training set.")]
RecipeName = Annotated[str, Argument(metavar="RECIPE", help="Name of a recipe, or a YAML file.")]
RunFolder = Annotated[Path, Argument(metavar="RUN", help="Folder of a run.")]
Models = Annotated[
    list[str],
    Argument(
        metavar="MODEL…", help="Model names, cards, exported folders, runs or folders of results."
    ),
]

SetOut = Annotated[Path, Option("--out", help="Folder of the set; extended if present.")]
RunOut = Annotated[Path, Option("--out", help="Folder of the run.")]
ModelOut = Annotated[Path, Option("--out", help="Folder for weights and card.")]
ModelName = Annotated[
    str | None,
    Option("--name", help="Name of the model; no other model may have it. Default: its method."),
]
StartedFrom = Annotated[
    Path | None,
    Option(
        "--started-from",
        metavar="START",
        help="What the fit started from, for a run of an earlier version that did not record it.",
    ),
]
SplitFile = Annotated[Path | None, Option("--split", help="YAML file: patient ID to split.")]
Assign = Annotated[
    str | None, Option("--assign", help="One split for all: train, validation or test.")
]
LowDose = Annotated[
    float | None,
    Option(
        "--low-dose",
        min=0.001,
        max=0.999,
        help="IN are real low-dose partners of series in the set, at this fraction of full dose.",
    ),
]
Copies = Annotated[int, Option("--copies", min=1, help="Noise images per slice.")]
Processes = Annotated[int, Option("--processes", min=1, help="Number of processes.")]
Seed = Annotated[int, Option("--seed", help="Seed of the simulated noise.")]

FitData = Annotated[Path, Option("--data", help="Folder of the training set.")]
Resume = Annotated[bool, Option("--resume", help="Resume an interrupted run.")]
Steps = Annotated[
    int | None, Option("--steps", min=1, help="Optimiser steps instead of the recipe's.")
]
MaxMinutes = Annotated[
    float | None,
    Option("--max-minutes", help="End after this time; the learning-rate schedule adapts to it."),
]
Init = Annotated[
    Path | None,
    Option(
        "--init",
        metavar="START",
        help="Run, card, exported folder or model name to start from; man-diffusion needs one.",
    ),
]
Device = Annotated[str, Option("--device", help="auto, cpu or cuda.")]
Compile = Annotated[
    bool | None,
    Option("--compile/--no-compile", help="Compile the networks, or not; else as the recipe says."),
]
Threads = Annotated[int | None, Option("--threads", min=1, help="Number of threads.")]

EvaluationData = Annotated[Path, Option("--data", help="Training set, or folder of DICOM files.")]
Full = Annotated[
    Path | None,
    Option("--full", help="Folder of full-dose partners; --data is then real low dose."),
]
Split = Annotated[str, Option("--split", help="Split of a training set.")]
Doses = Annotated[
    list[float],
    Option("--dose", min=0.001, max=1.0, help="Fraction of full dose; may be repeated."),
]
Windows = Annotated[
    list[str], Option("--window", help="soft, lung, …-exam or LOW,HIGH in HU; may be repeated.")
]
SamplingSteps = Annotated[
    list[int],
    Option("--steps", min=1, help="Sampling steps instead of the card's; may be repeated."),
]


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


Samplers = Annotated[
    list[str],
    Option(
        "--sampler",
        help=f"Sampler instead of the card's: {_either(SAMPLERS['cosine'])}; for a residual shift "
        f"{_either(SAMPLERS['residual-shift'])}; may be repeated.",
    ),
]
Slices = Annotated[
    int | None, Option("--slices", min=1, help="Maximum number of slices per series.")
]
Gaussian = Annotated[bool, Option("--gaussian", help="Add the blur with the best PSNR.")]
Classical = Annotated[
    bool,
    Option("--classical", help="Add the best blur, non-local means and total variation; slow."),
]
Ceiling = Annotated[
    bool, Option("--ceiling", help="Add full dose reconstructed by the model's autoencoder alone.")
]
ResultRows = Annotated[
    list[str],
    Option(
        "--row",
        metavar="NAME",
        help="Name of the row of a folder of results instead of the folder's; may be repeated.",
    ),
]
Partial = Annotated[
    bool,
    Option("--partial", help="Leave slices that a folder of results lacks out of all rows."),
]
Card = Annotated[
    Path | None, Option("--card", help="Enter the measured rows into this model card.")
]
AsJson = Annotated[bool, Option("--json", help="Print one JSON value instead of text.")]

RESULTS = Path("results")
TableName = Annotated[str, Argument(metavar="TABLE", help="Name of a table, or a YAML file.")]
Variables = Annotated[
    list[str],
    Option("--set", metavar="NAME=VALUE", help="A variable of the table; may be repeated."),
]
ResultsOut = Annotated[Path, Option("--out", help="Folder for the files of the table.")]
ResumeTable = Annotated[bool, Option("--resume", help="Continue with the case rows in --out.")]
Without = Annotated[
    list[str], Option("--without", metavar="ROW", help="Leave a row out; may be repeated.")
]
FitRuns = Annotated[
    Path | None,
    Option(
        "--fit",
        metavar="RUNS",
        help="Fit the missing models of rows that name a recipe, each in a folder of its own here.",
    ),
]
FitMinutes = Annotated[
    float | None,
    Option("--max-minutes", help="Time of all missing fits, shared out over them."),
]
Final = Annotated[
    bool,
    Option("--final", help="Measure the test split, which must be done only once, at the end."),
]

PUBLISHED = Path("docs/results")
FIGURES = Path("docs/figures")
CardPath = Annotated[
    Path | None, Argument(metavar="[CARD]", help="The card; default: that of the shipped model.")
]
ResultsFolder = Annotated[Path, Option("--results", help="Folder of measured tables.")]
FiguresOut = Annotated[Path, Option("--out", help="Folder for the figures.")]
FigureModel = Annotated[str, Option("--model", help="Name, card, exported folder or run.")]
Beside = Annotated[
    list[str],
    Option("--beside", metavar="MODEL", help="Another model of the strips; may be repeated."),
]
ZoomRegion = Annotated[
    tuple[int, int] | None,
    Option("--region", metavar="ROW COLUMN", help="Centre of the zoom in a real pair, pixels."),
]
CurveFile = Annotated[
    Path | None,
    Option("--curve", help="File of `man-train curve`: PSNR over LPIPS of table1 with its dials."),
]
PairLow = Annotated[
    Path | None, Option("--low", help="Draw this low-dose series of a patient instead.")
]
PairFull = Annotated[Path | None, Option("--full", help="The full-dose partner of --low.")]
PairDose = Annotated[float, Option("--dose", min=0.001, max=1.0, help="The dose of --low.")]
OneWindow = Annotated[str, Option("--window", help="Window of a real pair.")]
