"""``denoise``: denoising of a folder without network."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from dicom_node.cli.configuration import read_settings, source_title
from dicom_node.cli.file_modes import modes_of_the_caller
from dicom_node.cli.noise_wanted import (
    DoseGainOption,
    NoiseOptions,
    ReferenceOption,
    TargetNoise,
)
from dicom_node.cli.output import AsJson, printable, progress, write_json
from dicom_node.cli.paths import check_given
from dicom_node.cli.signals import ending_in_order
from dicom_node.errors import ConfigurationError, NodeError
from dicom_node.rules import Rule, load_rules
from dicom_node.settings import DerivedSettings, GuardSettings, ModelSettings
from dicom_node.work_order import fixed_gain
from man_core import NO_SAMPLER

if TYPE_CHECKING:  # denoising imports torch, for which other commands should not wait
    from dicom_node.denoising.folder import SeriesOutcome
    from dicom_node.denoising.series import DenoiseOptions
    from man_core import Denoiser, DenoiseReport, UncertaintySummary

S = TypeVar("S", ModelSettings, GuardSettings)

Source = Annotated[Path, typer.Argument(metavar="IN", help="Folder of DICOM files.")]
Destination = Annotated[
    Path, typer.Argument(metavar="OUT", help="Folder for the derived DICOM files.")
]
Steps = Annotated[
    int | None, typer.Option(min=1, help="Sampling steps; default: those of the model's card.")
]
Device = Annotated[str | None, typer.Option(help="Device: auto, cpu, cuda or cuda:N.")]
Incomplete = Annotated[
    bool, typer.Option("--incomplete", help="Denoise incomplete series too; their headers say so.")
]
ModelName = Annotated[
    str | None, typer.Option(help="Name of a model or path of its card; see `models`.")
]
Strength = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Share of the denoised image in the blend: 0 is the source, 1 the full effect.",
    ),
]
GuardAction = Annotated[
    Literal["block", "flag", "off"] | None,
    typer.Option(
        help="Action on an implausible result; default: block, so that nothing is written."
    ),
]
SourceAe = Annotated[
    str,
    typer.Option(callback=source_title, help="AE title of the sender for the rules to assume."),
]
RulesToo = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Configuration file with its rules; default: none."),
]
Seeds = Annotated[
    int | None,
    typer.Option(min=2, help="Report the spread over this many seeds, which takes one run each."),
]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(denoise)


def denoise(
    source: Source,
    destination: Destination,
    model: ModelName = None,
    strength: Strength = None,
    dose_gain: DoseGainOption = None,
    target_noise_hu: TargetNoise = None,
    noise_reference: ReferenceOption = None,
    steps: Steps = None,
    device: Device = None,
    incomplete: Incomplete = False,
    guard: GuardAction = None,
    uncertainty: Seeds = None,
    source_ae: SourceAe = "",
    config: RulesToo = None,
    as_json: AsJson = False,
) -> None:
    """Denoise the CT series in a folder and write the derived series to another folder.

    With -c, the site's rules decide as in the node; --model, --strength, --dose-gain and
    --target-noise-hu take precedence.
    """
    noise = NoiseOptions(dose_gain, target_noise_hu, noise_reference)
    base = _base(config, source_ae, noise)
    _check_folders(source, destination)
    _start_converters(source)
    from dicom_node.denoising.folder import Orders, denoise_folder

    named = noise.applied_to(base.model, model)
    wanted = _changed(named, strength=strength, steps=steps, device=device)
    denoiser = _denoiser(wanted, steps)
    load = None if model is not None else _loader(wanted)
    orders = Orders(base.rules, source_ae, wanted.name, load, strength, noise.given, incomplete)
    orders = noise.judging(replace(orders, configured=base.model.name), wanted)
    with ending_in_order(), modes_of_the_caller(), progress("denoising") as on_slice:
        outcomes = denoise_folder(
            source,
            destination,
            denoiser,
            _options(wanted, base.derived, _changed(base.guard, action=guard, seeds=uncertainty)),
            lambda _name, done, total: on_slice(done, total),
            orders=orders,
        )
    _report(outcomes, as_json)
    _exit_if_failed(outcomes)


@dataclass(frozen=True)
class _Base:
    """The configuration of offline denoising; without a file, the defaults and no rules."""

    model: ModelSettings
    derived: DerivedSettings
    guard: GuardSettings
    rules: Sequence[Rule]


def _base(config: Path | None, source_ae: str, noise: NoiseOptions) -> _Base:
    if config is None:
        if source_ae:
            raise ConfigurationError("--source-ae is for rules: give their file with -c.")
        model = noise.with_reference(ModelSettings())
        return _Base(model, DerivedSettings(), GuardSettings(), ())
    settings = read_settings(config)
    settings = settings.model_copy(update={"model": noise.with_reference(settings.model)})
    rules = load_rules(settings).rules
    return _Base(settings.model, settings.derived, settings.guard, rules)


def _denoiser(wanted: ModelSettings, steps: int | None) -> Denoiser:
    from dicom_node.denoising.models import load_model

    denoiser = load_model(wanted)
    if steps is not None and denoiser.info.sampler == NO_SAMPLER:
        raise ConfigurationError(f"Model {denoiser.info.name} does not sample: omit --steps.")
    return denoiser


def _options(model: ModelSettings, labels: DerivedSettings, watch: GuardSettings) -> DenoiseOptions:
    from dicom_node.ct.derived.provenance import DeriveOptions
    from dicom_node.denoising.models import guard_options
    from dicom_node.denoising.series import DenoiseOptions

    labelled = DeriveOptions(**labels.model_dump())
    return DenoiseOptions(
        model.strength,
        labelled,
        guard_options(watch),
        fixed_gain(model.dose_gain),
        model.target_noise_hu,
    )


def _loader(wanted: ModelSettings) -> Callable[[str], Denoiser]:
    """A loader for the models that rules name: each once, with the common device and steps."""
    from dicom_node.denoising.models import for_model, load_model

    @functools.cache
    def load(name: str) -> Denoiser:
        return load_model(for_model(wanted, name))

    return load


def _changed(settings: S, **options: object) -> S:
    """The settings, overridden by the options that were given."""
    return settings.model_copy(update={k: v for k, v in options.items() if v is not None})


def _start_converters(source: Path) -> None:
    """Let the processes that read and write slices start while torch and the model are loaded."""
    from dicom_node.ct.conversion.pool import CONVERTERS, MAX_PROCESSES, SLICES_PER_PROCESS

    found = source.rglob("*") if source.is_dir() else iter((source,))
    CONVERTERS.start(sum(1 for _ in islice(found, MAX_PROCESSES * SLICES_PER_PROCESS)))


def _check_folders(source: Path, destination: Path) -> None:
    """Refuse a folder with files that this program did not write and would overwrite."""
    from dicom_node.ct.headers import load
    from dicom_node.ct.scope import is_own_result

    check_given([source])
    if destination.resolve() == source.resolve():
        raise ConfigurationError(
            f"{destination} is the input folder: name another folder for the result."
        )
    if destination.exists() and not destination.is_dir():
        raise ConfigurationError(f"{destination} is a file: name a folder for the result.")
    for path in sorted(destination.rglob("*.dcm")):
        try:
            own = is_own_result(load(path, pixels=False))
        except NodeError:
            own = False
        if not own:
            raise ConfigurationError(
                f"{destination} holds {path.name}, which this program did not write: name an empty"
                " folder for the result."
            )


def _report(outcomes: Sequence[SeriesOutcome], as_json: bool) -> None:
    if as_json:
        write_json([_outcome(item) for item in outcomes])
        return
    for item in outcomes:
        if item.error is not None:
            _say(f"{item.name}: failed{_by_rule(item)}. {item.error}", err=True)
        elif item.report is not None:
            done = item.report.denoise
            _say(
                f"{item.name}: {done.slices} slices to {item.destination} by {done.model}"
                f" {done.version} on {done.device}, {done.seconds / done.slices:.2f} s per slice;"
                f" noise {_hu(done.noise_before_hu)} before, {_hu(done.noise_after_hu)} after;"
                f" {_verdict(done)}{_by_rule(item)}."
            )
            if basis := item.report.gain_basis:
                gain = f"dose gain {done.dose_gain:g}"
                _say(f"{item.name}: {gain}, {basis}.", err=True)
            for remark in item.report.remarks:
                _say(f"{item.name}: {remark}.", err=True)
            _report_uncertainty(item.report.uncertainty)
        else:
            _say(f"{item.name}: skipped, {item.skipped}{_by_rule(item)}.", err=True)


def _say(line: str, *, err: bool = False) -> None:
    typer.echo(printable(line), err=err)


def _exit_if_failed(outcomes: Sequence[SeriesOutcome]) -> None:
    if any(item.error for item in outcomes) or not any(item.destination for item in outcomes):
        raise typer.Exit(1)


def _by_rule(item: SeriesOutcome) -> str:
    return f" (rule {item.rule!r})" if item.rule else ""


def _verdict(report: DenoiseReport) -> str:
    if not report.findings:
        return "guard off"
    objections = "; ".join(f"{one.verdict}, {one.sentence}" for one in report.objections)
    return f"guard: {objections or report.verdict}"


def _report_uncertainty(spread: UncertaintySummary | None) -> None:
    if spread is not None:
        typer.echo(
            f"The spread over {spread.seeds} seeds in soft tissue: median {_hu(spread.median_hu)},"
            f" 99th percentile {_hu(spread.p99_hu)}."
        )


def _hu(value: float | None) -> str:
    return "not measurable" if value is None else f"{value:.1f} HU"


def _outcome(item: SeriesOutcome) -> dict[str, Any]:
    return {
        "name": item.name,
        "destination": None if item.destination is None else str(item.destination),
        "report": None if item.report is None else item.report.to_dict(),
        "skipped": item.skipped,
        "error": item.error,
        "rule": item.rule or None,
    }
