"""A measured curve as files: JSON for programs, Markdown and figures for people."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

from training.curve.figure import draw_kind
from training.curve.measure import Curve, Point
from training.curve.rule import MAX_PSNR_LOSS_DB, SSIM_TIE
from training.curve.settings import Dial
from training.evaluate.methods import Method
from training.tables.results import grid, heading

FORMAT = 1
NAME = "curve"

HEAD = (
    "row",
    "weights",
    "dial",
    "slices (patients)",
    "PSNR (dB)",
    "SSIM",
    "LPIPS",
    "noise (HU)",
    "noise left",
    "noise left in water",
    "d'",
)

RULE = (
    f"The default by the rule: of the positions that lose at most {MAX_PSNR_LOSS_DB:g} dB of PSNR"
    f" against the best one, those with the highest SSIM (equal within {SSIM_TIE:g}), of these the"
    " one with the lowest LPIPS; averaged over the sections below, each counting the same."
)


def save_curve(curve: Curve, folder: Path) -> list[Path]:
    """Write ``curve.json``, ``curve.md`` and a figure for each kind of cases into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = [
        draw_kind(curve, number, folder / f"{NAME}-{number + 1}.png")
        for number in range(len(curve.kinds()))
    ]
    data, page = folder / f"{NAME}.json", folder / f"{NAME}.md"
    data.write_text(_json(curve), encoding="utf-8")
    page.write_text(markdown(curve, [path.name for path in figures]), encoding="utf-8")
    return [data, page, *figures]


def _json(curve: Curve) -> str:
    facts = {
        "format": FORMAT,
        "rule": {"max_psnr_loss_db": MAX_PSNR_LOSS_DB, "ssim_tie": SSIM_TIE},
        "sigma_pixels": curve.sigma_pixels,
        "models": [
            {
                "name": model.name,
                "weights_sha256": model.weights_sha256,
                "dose_gain": model.dose_gain,
                "chosen": {
                    str(dial): curve.default_of(model, dial) for dial in Dial if dial != Dial.NONE
                },
            }
            for model in curve.models
        ],
        "points": [point.to_dict() for point in curve.points],
    }
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"


def markdown(curve: Curve, figures: list[str]) -> str:
    """Return the page as Markdown.

    Args:
        curve: Measured curve.
        figures: File names of the figures, one for each kind of cases.
    """
    parts = [
        "# Quality over the dials",
        f"Made by `man-train curve`; the same figures for programs: [{NAME}.json]({NAME}.json)."
        " Noise is estimated in soft tissue, noise left is its share of the low dose's; noise left"
        " in water and d' come from the phantom of `man-train assess` at the same dose.",
        RULE,
        "\n".join(f"- {sentence}" for model in curve.models for sentence in _choices(curve, model)),
    ]
    for kind, figure in zip(curve.kinds(), figures, strict=True):
        points = [point for point in curve.points if point.kind == kind]
        parts += [f"## {heading(points[0].row)}", f"![Quality over noise left]({figure})"]
        parts.append(grid(HEAD, [list(_cells(curve, point)) for point in points]))
    return "\n\n".join(parts) + "\n"


def _choices(curve: Curve, model: Method) -> Iterator[str]:
    """Yield a sentence for each dial of a model."""
    named = f"`{model.name}`, weights `{model.weights_sha256[:8] or 'none'}`"
    gain, strength, texture = (
        curve.default_of(model, dial) for dial in (Dial.GAIN, Dial.STRENGTH, Dial.TEXTURE)
    )
    if gain is not None:
        yield f"{named}: dose gain {gain:g} (its card has {model.dose_gain:g})."
    at = "" if model.dose_gain is None else f" at dose gain {model.dose_gain:g}"
    if strength is not None:
        yield f"{named}: strength {strength:g}{at}."
    if texture is not None:
        yield f"{named}: texture {texture:g} of sigma {curve.sigma_pixels:g} pixels{at}."


def _cells(curve: Curve, point: Point) -> Iterator[str]:
    row, water = point.row, point.water
    yield point.model
    yield f"`{row.weights_sha256[:8]}`" if row.weights_sha256 else ""
    yield _position(curve, point)
    yield f"{row.slices} ({row.patients})"
    yield _number(row.psnr_db, 2)
    yield _number(row.ssim, 4)
    yield _number(row.lpips, 4)
    yield _number(point.noise_hu, 1)
    yield _number(point.noise_left, 2)
    yield _number(water.noise_left, 2)
    yield _number(water.detectability, 2)


def _position(curve: Curve, point: Point) -> str:
    """Return dial and position; bold where the rule chooses it."""
    if point.dial == Dial.NONE:
        return str(point.dial)
    text = f"{point.dial} {point.value:g}"
    chosen = any(
        curve.default_of(model, point.dial) == point.value
        for model in curve.models
        if (model.name, model.weights_sha256) == (point.model, point.row.weights_sha256)
    )
    return f"**{text}**" if chosen else text


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"
