"""Sets of figures: those that may be published, and those of a patient, which must not be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from man_core.physics.phantom.series import AnatomyName
from man_core.quality import CHEST_EXAM, SOFT_TISSUE, Window
from training.errors import RecipeError
from training.evaluate.cases import Wanted, cases
from training.evaluate.methods import Method
from training.tables.figures import (
    cost_figure,
    dose_figure,
    panel_figure,
    phantom_case,
    time_figure,
)
from training.tables.results import load_result
from training.tables.strips import Region, lesion_case, strip_figure, tissue_centre

TABLE_FIGURES = {"steps": cost_figure, "doses": dose_figure, "table1": time_figure}
"""Drawing of each table that has a figure."""

PHANTOMS: tuple[tuple[AnatomyName, Window], ...] = (("abdomen", SOFT_TISSUE), ("chest", CHEST_EXAM))


def draw_published(results: Path, methods: Sequence[Method], out: Path) -> list[Path]:
    """Draw figures that may be published: phantoms, and curves of the measured tables.

    Args:
        results: Folder of measured tables.
        methods: Methods that are applied to the phantoms; the panels are of the first.
        out: Folder of the figures.
    """
    first, drawn = methods[0], []
    for anatomy, window in PHANTOMS:
        case = phantom_case(anatomy)
        drawn.append(panel_figure(case, first, window, out / f"phantom-{anatomy}.png"))
        lesion, region = lesion_case(anatomy)
        path = out / f"strip-{anatomy}.png"
        drawn.append(strip_figure(lesion, methods, region, window, path))
    for name, draw in TABLE_FIGURES.items():
        table = results / f"{name}.json"
        if table.is_file():
            drawn.append(draw(load_result(table), out / f"{name}.png"))
    return drawn


def draw_pair(
    low: Path,
    full: Path,
    dose: float,
    methods: Sequence[Method],
    window: Window,
    out: Path,
    region: Region | None = None,
) -> list[Path]:
    """Draw a panel and a strip for each series of a real pair.

    Args:
        low: DICOM folder of low dose.
        full: DICOM folder of full dose at the same positions.
        dose: Dose of ``low`` as a fraction of full dose.
        methods: Methods of the strips; the panels are of the first.
        window: Window, HU.
        out: Folder of the figures.
        region: Region of the strips; None: the centre of the soft tissue.

    Raises:
        RecipeError: The figures would be in a repository, which must not contain patient images.
        TrainingError: The folders contain no pair.
    """
    folder = out.resolve()
    if any((above / ".git").exists() for above in (folder, *folder.parents)):
        raise RecipeError(
            f"{out} is in a repository, which must not contain patient images;"
            " name another folder with --out."
        )
    drawn = []
    for case in cases(low, full, Wanted(doses=(dose,))):
        drawn.append(panel_figure(case, methods[0], window, out / f"{case.name}.png"))
        shown = region or tissue_centre(case)
        path = out / f"{case.name}-strip.png"
        drawn.append(strip_figure(case, methods, shown, window, path))
    return drawn
