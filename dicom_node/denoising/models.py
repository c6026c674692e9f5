"""Models of ``man_core`` as the worker uses them, each loaded once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node import telemetry
from dicom_node.denoising.report import ImplausibleResult, RunReport
from dicom_node.errors import ConfigurationError, DeviceFault, ModelUnavailable
from dicom_node.logs import get_logger
from dicom_node.settings import (
    NO_REFERENCE,
    GuardSettings,
    ModelSettings,
    Settings,
    guard_limits,
)
from dicom_node.work_order import AUTO, MeasuredGain, fixed_gain

if TYPE_CHECKING:
    from dicom_node.denoising.series import DenoiseOptions, GuardOptions
    from dicom_node.ledger.model import Job
    from man_core import Denoiser, DenoiseReport, NoiseReference

log = get_logger(__name__)

EARLIER_GONE = "its earlier images had left the node before these came"
"""Missing slices of late images whose series was purged before they could be checked with it."""


def load_model(wanted: ModelSettings) -> Denoiser:
    """Load the denoiser that the settings name.

    Raises:
        ModelUnavailable: No such model, its weights are damaged, there is no such device, or the
            model cannot be told the dose gain that the settings name.
        DeviceFault: The device failed, or has not enough free memory.
    """
    from man_core import ModelError, load_denoiser

    try:
        with device_faults(wanted.device):
            denoiser = load_denoiser(
                wanted.name, device=wanted.device, steps=wanted.steps, precision=wanted.precision
            )
        denoiser.info.dose_gain_for(wanted.required_gain)
    except ModelError as error:
        raise ModelUnavailable(str(error)) from error
    return denoiser


def for_model(settings: ModelSettings, name: str) -> ModelSettings:
    """Return the settings for a model of a name; the noise wanted belongs to the one they name."""
    if name == settings.name:
        return settings
    return settings.model_copy(update={"name": name, "dose_gain": None, "target_noise_hu": None})


def noise_reference(settings: ModelSettings) -> NoiseReference:
    """Read the noise reference that the settings name.

    Raises:
        ConfigurationError: They name none, or it cannot be read.
        StorageError: The disk, or the system, cannot read it now.
    """
    from dicom_node.denoising.noise_reference import load_reference

    if settings.noise_reference is None:
        raise ConfigurationError(f"{NO_REFERENCE}.")
    return load_reference(settings.noise_reference)


@contextmanager
def device_faults(device: str) -> Iterator[None]:
    """Turn faults of a device within the block into sentences.

    Args:
        device: Its name.

    Raises:
        DeviceFault: The device failed, or has not enough free memory.
    """
    import torch

    try:
        yield
    except torch.AcceleratorError as error:
        raise DeviceFault(f"The device {device} failed: look at its driver.") from error
    except torch.OutOfMemoryError as error:
        raise DeviceFault(
            f"The device {device} has not enough free memory: look for other programs on it."
        ) from error


class ModelDenoise:
    """Denoise with the models of ``man_core``; each is loaded once.

    Args:
        settings: Default model, device, steps, labels of the derived series.

    Raises:
        ModelUnavailable: The configured model cannot be loaded here.
        ConfigurationError: The noise reference that it needs cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loaded: dict[str, Denoiser] = {}
        self.denoiser(settings.model.name)
        if settings.model.dose_gain == AUTO:
            noise_reference(settings.model)

    def denoiser(self, name: str) -> Denoiser:
        """Return the denoiser of a name, loaded at its first use."""
        if name not in self._loaded:
            loaded = load_model(for_model(self._settings.model, name))
            self._loaded[name] = loaded
            log.info("model loaded", model=name, version=loaded.info.version)
        return self._loaded[name]

    def derived_series_uid(self, job: Job) -> str:
        """See :class:`dicom_node.denoising.worker.Denoise`."""
        from dicom_node.denoising.series import derived_series_uid

        return derived_series_uid(job.series_uid, self.denoiser(job.model), self._options(job))

    def measured_gain(self, files: Sequence[Path], *, job: Job) -> MeasuredGain:
        """See :class:`dicom_node.denoising.worker.Denoise`."""
        from dicom_node.denoising.measured_gain import measured_gain

        wanted = job.target_noise_hu or noise_reference(self._settings.model)
        return measured_gain(files, self.denoiser(job.model), wanted)

    def __call__(
        self,
        files: Sequence[Path],
        folder: Path,
        *,
        job: Job,
        only: Collection[Path] | None,
        should_stop: Callable[[], bool],
    ) -> RunReport:
        """See :class:`dicom_node.denoising.worker.Denoise`.

        Raises:
            DeviceFault: This process cannot use the device any more.
            ImplausibleResult: The guard keeps the result back.
        """
        from dicom_node.denoising.series import denoise_series

        missing = EARLIER_GONE if only is not None and len(only) == len(files) else job.gap
        denoiser = self.denoiser(job.model)
        try:
            with device_faults(denoiser.device):
                report = denoise_series(
                    files,
                    folder,
                    denoiser,
                    self._options(job),
                    only=only,
                    missing=missing,
                    should_stop=should_stop,
                )
        except ImplausibleResult as error:
            _report_findings(error.report.denoise)
            raise
        _report_findings(report.denoise)
        return report

    def _options(self, job: Job) -> DenoiseOptions:
        from dicom_node.ct.derived.provenance import DeriveOptions
        from dicom_node.denoising.series import DenoiseOptions

        return DenoiseOptions(
            strength=job.strength,
            dose_gain=job.measured_gain if job.measures else fixed_gain(job.dose_gain),
            target_noise_hu=job.target_noise_hu,
            gain_basis=job.gain_basis,
            derived=DeriveOptions(**self._settings.derived.model_dump()),
            guard=guard_options(self._settings.guard),
        )


def guard_options(settings: GuardSettings) -> GuardOptions:
    """Return the guard's options as the settings give them."""
    from dicom_node.denoising.series import GuardOptions

    return GuardOptions(settings.action, guard_limits(settings.limits), settings.seeds)


def _report_findings(report: DenoiseReport) -> None:
    """Count what the guard found, and log what it objects to."""
    for finding in report.findings:
        telemetry.guard_verdict(finding.check, finding.verdict)
    for finding in report.objections:
        log.warning(
            "implausible result",
            check=finding.check,
            verdict=finding.verdict,
            value=None if finding.value is None else round(finding.value, 3),
            finding=finding.sentence,
        )
