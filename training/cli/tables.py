"""Commands ``table``, ``card`` and ``figures``: reproducible tables, model cards and figures."""

from __future__ import annotations

from pathlib import Path

import typer

from training.cli import options
from training.cli.output import counted, fit_progress, write_result
from training.errors import RecipeError


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command()(table)
    app.command()(card)
    app.command()(figures)


def table(
    name: options.TableName,
    variables: options.Variables = [],  # noqa: B006 - typer's way to give a repeatable option a default
    out: options.ResultsOut = options.RESULTS,
    resume: options.ResumeTable = False,
    without: options.Without = [],  # noqa: B006
    partial: options.Partial = False,
    fit: options.FitRuns = None,
    max_minutes: options.FitMinutes = None,
    final: options.Final = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure a published table: Markdown, JSON, CSV, LaTeX and the rows of each case."""
    import torch

    from training.tables.file import filled, load_table
    from training.tables.fits import FitPlan, fit_facts, fit_missing, runs_of
    from training.tables.results import TableResult
    from training.tables.save import save_result
    from training.tables.tabulate import TableOptions, tabulate

    if threads:
        torch.set_num_threads(threads)
    wanted, given, left_out = load_table(name), _pairs(variables), tuple(without)
    runs = runs_of(wanted, given, fit) if fit else {}
    table = filled(wanted, given, left_out, runs)
    if fit:
        own = [method for method in table.methods if method.row in runs]
        fit_missing(own, FitPlan(fit, max_minutes, device), fit_progress)
    title = name.rpartition("/")[2].removesuffix(".yaml").removesuffix(".yml")
    settings = TableOptions(out / f"{title}.cases.jsonl", resume, final, device, partial)
    with counted("series") as on_case:
        found = tabulate(table, settings, on_case)
    fits = tuple(fit_facts(table.methods))
    result = TableResult(title, wanted, found.rows, left_out, found.estimates, fits)
    written = save_result(result, out)
    paths = [str(path) for path in written]
    write_result(as_json, f"Wrote {' and '.join(paths)}.", {"files": paths})


def card(
    path: options.CardPath = None,
    results: options.ResultsFolder = options.PUBLISHED,
    as_json: options.AsJson = False,
) -> None:
    """Enter measured tables into a model card and write its page, README.md, beside it."""
    from man_core.registry import pretrained_folder
    from training.tables.card import CARD_TABLES, write_card

    if path is None and not all((results / f"{name}.json").is_file() for name in CARD_TABLES):
        raise RecipeError(
            f"{results} does not hold the measured tables of the shipped model"
            f" ({', '.join(CARD_TABLES)}), so that its card is left unchanged: run this in the"
            " root of the repository, or name their folder with --results."
        )
    page = write_card(path or pretrained_folder() / "man.json", results)
    write_result(as_json, f"Wrote {page}.", {"page": str(page)})


def figures(
    out: options.FiguresOut = options.FIGURES,
    results: options.ResultsFolder = options.PUBLISHED,
    model: options.FigureModel = "man",
    beside: options.Beside = [],  # noqa: B006
    region: options.ZoomRegion = None,
    curve: options.CurveFile = None,
    low: options.PairLow = None,
    full: options.PairFull = None,
    dose: options.PairDose = 0.25,
    window: options.OneWindow = "soft",
    device: options.Device = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Draw curves of measured tables, and panels and strips of phantoms or of a real pair."""
    from training.evaluate.methods import model_method
    from training.evaluate.windows import window_of
    from training.tables.published_figures import draw_pair, draw_published
    from training.tables.strips import Region

    methods = [model_method(name, device=device) for name in (model, *beside)]
    shown, place = window_of(window), Region(*region) if region else None
    if (low is None) != (full is None):
        raise RecipeError("A real pair needs both --low and --full.")
    if low and full:
        drawn = draw_pair(low, full, dose, methods, shown, out, place)
    else:
        drawn = draw_published(results, methods, out)
    if curve:
        drawn.append(_tradeoff(results, curve, out))
    paths = [str(path) for path in drawn]
    write_result(as_json, "\n".join(f"Drew {path}." for path in paths), {"files": paths})


def _tradeoff(results: Path, curve: Path, out: Path) -> Path:
    from training.curve.tradeoff import load_points, tradeoff_figure
    from training.tables.results import load_result

    table = load_result(results / "table1.json")
    return tradeoff_figure(table, load_points(curve), out / "table1-tradeoff.png")


def _pairs(given: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    if wrong := [text for text, (_, equals, _) in zip(given, pairs, strict=True) if not equals]:
        raise RecipeError(f"{wrong[0]!r} gives the variable no value; write NAME=VALUE.")
    return {name: value for name, _, value in pairs}
