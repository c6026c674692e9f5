"""Which figures there are, and where they may lie."""

from __future__ import annotations

from pathlib import Path

from man_core.quality import CHEST_EXAM, SOFT_TISSUE, Window
from training.errors import RecipeError
from training.evaluate.cases import Wanted, cases
from training.evaluate.methods import Method
from training.tables.figures import cost_figure, dose_figure, panel_figure, phantom_case
from training.tables.results import load_result

STEPS_TABLE = "steps"
DOSES_TABLE = "doses"


def draw_published(results: Path, method: Method, out: Path) -> list[Path]:
    """Figures that may be published: phantoms, and the curves of the tables that are there.

    Args:
        results: Folder of measured tables.
        method: What is applied to the phantoms.
        out: Folder of the figures.
    """
    drawn = [
        panel_figure(phantom_case("abdomen"), method, SOFT_TISSUE, out / "phantom-abdomen.png"),
        panel_figure(phantom_case("chest"), method, CHEST_EXAM, out / "phantom-chest.png"),
    ]
    for name, draw in ((STEPS_TABLE, cost_figure), (DOSES_TABLE, dose_figure)):
        table = results / f"{name}.json"
        if table.is_file():
            drawn.append(draw(load_result(table), out / f"{name}.png"))
    return drawn


def draw_pair(
    low: Path, full: Path, dose: float, method: Method, window: Window, out: Path
) -> list[Path]:
    """A panel for each series of a real pair.

    Raises:
        RecipeError: The pictures would lie in a repository, where no patient's image belongs.
        TrainingError: The folders hold no pair.
    """
    folder = out.resolve()
    if any((above / ".git").exists() for above in (folder, *folder.parents)):
        raise RecipeError(
            f"{out} lies in a repository, which is no place for patients' images:"
            " name another folder with --out"
        )
    found = cases(low, full, Wanted(doses=(dose,)))
    return [panel_figure(case, method, window, out / f"{case.name}.png") for case in found]
