"""Command ``curve``: quality of models over dose gain, strength and texture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from man_core import MAX_DOSE_GAIN
from man_core.texture import MAX_SIGMA_PIXELS, Texture
from training.cli import options
from training.cli.output import counted, write_result
from training.errors import RecipeError

Gains = Annotated[
    list[float], Option("--gain", min=1.0, max=MAX_DOSE_GAIN, help="Dose gain; may be repeated.")
]
Strengths = Annotated[
    list[float], Option("--strength", min=0.0, max=1.0, help="Strength; may be repeated.")
]
Textures = Annotated[
    list[float],
    Option("--texture", min=0.0, max=1.0, help="Share of the fine noise kept; may be repeated."),
]
Sigma = Annotated[
    float,
    Option("--sigma", min=0.1, max=MAX_SIGMA_PIXELS, help="Below it noise is fine, in pixels."),
]
Doses = Annotated[
    list[float],
    Option("--dose", min=0.001, max=0.999, help="Fraction of full dose; may be repeated."),
]
OneWindow = Annotated[str, Option("--window", help="Window: soft, lung, …-exam or LOW,HIGH in HU.")]
Phantom = Annotated[
    bool, Option("--phantom/--no-phantom", help="Also measure noise and d' in water.")
]
Out = Annotated[Path, Option("--out", help="Folder for JSON, Markdown and figures.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command()(curve)


def curve(
    models: options.Models,
    data: options.EvaluationData,
    out: Out,
    full: options.Full = None,
    split: options.Split = "validation",
    gain: Gains = [1, 1.5, 2, 3, 4, 6, 8, 12, 16],  # noqa: B006 - typer's way to give a repeatable option a default
    strength: Strengths = [0.2, 0.4, 0.6, 0.8, 0.9, 1],  # noqa: B006
    texture: Textures = [],  # noqa: B006
    sigma: Sigma = 0.7,
    dose: Doses = [0.25, 0.1],  # noqa: B006
    window: OneWindow = "soft",
    slices: options.Slices = None,
    phantom: Phantom = True,
    device: options.Device = "auto",
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure and draw quality over gain, strength and texture; name the default of each dial."""
    from training.curve.measure import measure_curve
    from training.curve.page import save_curve
    from training.data.splits import known_split
    from training.evaluate.cases import Wanted, cases
    from training.evaluate.methods import model_method
    from training.evaluate.windows import window_of

    _use(threads)
    wanted = Wanted(known_split(_not_test(split)), tuple(dict.fromkeys(dose)), slices)
    methods = [model_method(model, device=device) for model in models]
    with counted("series") as on_case:
        done = measure_curve(
            methods,
            cases(data, full, wanted),
            window_of(window),
            positions(gain),
            positions(strength),
            [Texture(share, sigma) for share in positions(texture)],
            phantom=phantom,
            on_case=on_case,
        )
    _report(save_curve(done, out), as_json)


def _use(threads: int | None) -> None:
    import torch

    if threads:
        torch.set_num_threads(threads)


def _report(files: list[Path], as_json: bool) -> None:
    paths = [str(path) for path in files]
    write_result(as_json, f"Wrote {' and '.join(paths)}.", {"files": paths})


def _not_test(split: str) -> str:
    """Return a split that may choose a default."""
    if split == "test":
        raise RecipeError("A default is chosen on the split `validation`, never on `test`.")
    return split


def positions(values: list[float]) -> tuple[float, ...]:
    """Return positions without repetitions, in order."""
    if not all(map(math.isfinite, values)):
        raise RecipeError("Give dose gains, strengths and textures as finite numbers.")
    return tuple(sorted(set(values)))
