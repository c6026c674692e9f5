"""Low-dose CT from full-dose CT by noise insertion: LD = FD + FBP(noise).

The line integrals of the full-dose image give the number of quanta of each ray. The noise that a
lower dose would have added is drawn for each ray (Yu et al. 2012, J Comput Assist Tomogr 36:477)
and carried into the image by filtered back-projection. Since back-projection is linear, the
full-dose image itself is not reconstructed again and loses nothing.

The apodisation of a kernel is a radial filter, so one back-projection with the plain ramp serves
every kernel: ``broadband_noise`` has the streaks and the position dependence of real noise,
``shape_noise`` gives it the texture of a kernel, and ``calibrate`` its amplitude.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from man_core import noise as measured
from man_core.noise_texture import DETECTOR_BIN_PIXELS, image_power
from man_core.physics.projector import (
    WATER_PER_MM,
    attenuation,
    bins_across,
    filtered_back_projection,
    project,
    ramp_response,
)

MIN_STORED_HU = -1024.0
"""Minimum of twelve-bit CT; real scanners clip noise below it, too."""

PHOTONS = 2.5e5
"""Default number of full-dose quanta per ray (NEED, 2025)."""

ELECTRONIC_VARIANCE = 30.0
"""Variance of the electronic noise in quanta squared. NEED and Zeng (2015) use 10 to 11; 30
reproduces the ratio of quarter-dose to full-dose noise of the real validation pair, 2.1."""

TUBE_CURRENT_MODULATION = 0.2
"""Degree to which the tube current follows the longest path of a view, 0 to 1."""

VIEWS = 720
_MIN_QUANTA = 1.0
_COARSE = 2
_MIN_TISSUE_PIXELS = 200


def insert_noise(
    hu: Tensor,
    pixel_mm: float,
    *,
    dose: float,
    noise_hu: float | Tensor,
    cutoff: float,
    generator: torch.Generator,
    electronic: float = ELECTRONIC_VARIANCE,
) -> Tensor:
    """Simulate a series at a fraction of its dose.

    Args:
        hu: Full-dose slices [slice, row, column] in HU, with their own noise.
        pixel_mm: Side of a pixel.
        dose: Fraction of the full dose, above 0 and below 1.
        noise_hu: Noise of the full dose in soft tissue, HU: one value, or one per slice [slice].
        cutoff: Texture, see ``man_core.noise_texture``;
            ``man_core.noise.estimate_noise_and_texture`` estimates both values.
        generator: Source of randomness.
        electronic: Variance of the electronic noise, quanta squared. Without it the noise variance
            is exactly 1 / dose times that of the full dose; with it slightly more where few
            quanta arrive.

    Returns:
        Low-dose slices [slice, row, column] in HU, never below -1024.

    Raises:
        ValueError: The dose is not between 0 and 1.
    """
    _check_dose(dose)
    level = torch.as_tensor(noise_hu, dtype=torch.float32, device=hu.device)
    p = _line_integrals(hu, pixel_mm)
    photons = _photons(_mean_over_rays(p.exp(), p).mean(), pixel_mm, level.mean(), cutoff)
    std = _added_std(p, dose, photons, electronic)
    noise = shape_noise(_reconstruct_noise(std, hu, pixel_mm, [generator]), cutoff)
    full_dose_variance = _mean_over_rays(_ray_variance(p, photons, electronic), p)
    added = level * (_mean_over_rays(std**2, p) / full_dose_variance).sqrt()
    return (hu + calibrate(noise, tissue_mask(hu), added)).clamp(min=MIN_STORED_HU)


def broadband_noise(
    hu: Tensor,
    pixel_mm: float,
    *,
    dose: float,
    generator: torch.Generator,
    photons: float = PHOTONS,
    electronic: float = ELECTRONIC_VARIANCE,
) -> Tensor:
    """Simulate the noise that a lower dose adds, before any apodisation.

    Args:
        hu: Full-dose slices [slice, row, column] in HU.
        pixel_mm: Side of a pixel.
        dose: Fraction of the full dose, above 0 and below 1.
        generator: Source of randomness.
        photons: Full-dose quanta of an unattenuated ray.
        electronic: Variance of the electronic noise, quanta squared.

    Returns:
        Zero-mean noise [slice, row, column] in HU with the spectrum of the plain ramp.

    Raises:
        ValueError: The dose is not between 0 and 1.
    """
    _check_dose(dose)
    std = _added_std(_line_integrals(hu, pixel_mm), dose, photons, electronic)
    return _reconstruct_noise(std, hu, pixel_mm, [generator])


def matched_noise(
    hu: Tensor,
    pixel_mm: float,
    *,
    dose: float,
    noise_hu: Sequence[float],
    cutoff: float,
    generators: Sequence[torch.Generator],
    electronic: float = ELECTRONIC_VARIANCE,
) -> Tensor:
    """Simulate the noise of ``broadband_noise`` for the quanta that explain each slice's noise.

    The variance of a back-projected pixel is pi^2 / views times the mean variance of the rays
    through it times the energy of the filter (Kak and Slaney, eq. 5.79). Rays are weighted by their
    line integral, a measure of their path in the body.

    Args:
        hu: Full-dose slices [slice, row, column] in HU.
        pixel_mm: Side of a pixel.
        dose: Fraction of the full dose, above 0 and below 1.
        noise_hu: Full-dose noise of each slice in soft tissue, HU.
        cutoff: Texture, see ``man_core.noise_texture``.
        generators: Source of randomness of each slice, which may be on the CPU whatever the device
            of ``hu``: then all devices draw the same noise.
        electronic: Variance of the electronic noise, quanta squared.

    Returns:
        Zero-mean noise [slice, row, column] in HU with the spectrum of the plain ramp.

    Raises:
        ValueError: The dose is not between 0 and 1.
    """
    _check_dose(dose)
    p = _line_integrals(hu, pixel_mm)
    variance = torch.cat([_mean_over_rays(one.exp(), one) for one in p[:, None]])
    level = torch.tensor(noise_hu, dtype=torch.float64, device=hu.device)
    photons = _photons(variance, pixel_mm, level, cutoff)[:, None, None]
    return _reconstruct_noise(_added_std(p, dose, photons, electronic), hu, pixel_mm, generators)


def shape_noise(noise: Tensor, cutoff: float) -> Tensor:
    """Give broadband noise [..., row, column] the texture of a kernel; same shape.

    The gain is the square root of the ratio of the two noise power spectra.
    """
    return next(shape_noise_each(noise, [cutoff]))


def shape_noise_each(noise: Tensor, cutoffs: Iterable[float]) -> Iterator[Tensor]:
    """Yield ``shape_noise`` for each of several kernels."""
    rows, columns = noise.shape[-2:]
    spectrum = torch.fft.rfft2(noise)
    for cutoff in cutoffs:
        gain = _texture_gain(rows, columns, cutoff, noise.device)
        yield torch.fft.irfft2(spectrum * gain, s=(rows, columns))


def calibrate(noise: Tensor, tissue: Tensor, std_hu: float | Tensor) -> Tensor:
    """Scale noise to a standard deviation in soft tissue.

    Args:
        noise: Noise [slice, row, column], HU.
        tissue: Soft tissue, bool [slice, row, column].
        std_hu: Desired value: one for the mean over slices, which preserves their relation, or one
            per slice [slice].
    """
    wanted = torch.as_tensor(std_hu, dtype=noise.dtype, device=noise.device)
    std = torch.stack([_typical_std(n, t) for n, t in zip(noise, tissue, strict=True)])
    if not wanted.ndim:
        std = std.mean()
    return noise * (wanted / std.clamp(min=1e-9)).reshape(-1, 1, 1)


def _typical_std(noise: Tensor, tissue: Tensor) -> Tensor:
    """Return the median standard deviation of patches in tissue, as ``noise_hu`` measures it."""
    inside = tissue.to(noise.dtype)
    power = torch.stack((noise**2, inside))[:, None]
    power = functional.avg_pool2d(power, measured.PATCH_PIXELS, measured.STRIDE_PIXELS)[:, 0]
    patches = power[0][power[1] >= measured.MIN_TISSUE_SHARE]
    if len(patches) < measured.MIN_PATCHES:
        return ((noise**2 * inside).sum() / inside.sum().clamp(min=1.0)).sqrt()
    return patches.median().sqrt()


def tissue_mask(hu: Tensor) -> Tensor:
    """Return the soft tissue, bool [slice, row, column]; a slice without any counts whole."""
    mask = torch.from_numpy(measured.soft_tissue(hu.detach().cpu().numpy())).to(hu.device)
    empty = mask.sum((1, 2)) < _MIN_TISSUE_PIXELS
    mask[empty] = True
    return mask


def _check_dose(dose: float) -> None:
    if not 0.0 < dose < 1.0:
        raise ValueError(f"The dose is a fraction of the full dose between 0 and 1, got {dose}.")


def _photons(ray_variance: Tensor, pixel_mm: float, noise_hu: Tensor, cutoff: float) -> Tensor:
    """Compute the quanta of an unattenuated ray, float32 between 1e3 and 1e8, elementwise."""
    response = ramp_response(
        2048, DETECTOR_BIN_PIXELS * pixel_mm, cutoff, 0.5 * DETECTOR_BIN_PIXELS
    )
    energy = float((response**2).mean())
    scale = (1000.0 / WATER_PER_MM) ** 2 * math.pi**2 / VIEWS
    image_variance = scale * ray_variance.double() * energy
    return (image_variance / noise_hu.double().clamp(min=1e-3) ** 2).clamp(1e3, 1e8).float()


def _line_integrals(hu: Tensor, pixel_mm: float) -> Tensor:
    """Compute line integrals [slice, view, bin] at half resolution: the noise level varies slowly.

    The tube current is higher where the patient is wide, which has the effect of a shorter path.
    Without this modulation lateral streaks are stronger than in the real pair.
    """
    coarse = functional.avg_pool2d(attenuation(hu)[:, None], _COARSE)[:, 0]
    p = project(coarse, pixel_mm * _COARSE, views=VIEWS // _COARSE, bin_pixels=1.0)
    longest = p.amax(dim=2, keepdim=True)
    return (p - TUBE_CURRENT_MODULATION * (longest - longest.mean(1, keepdim=True))).clamp(min=0.0)


def _quanta(p: Tensor, photons: float | Tensor) -> Tensor:
    return (photons * torch.exp(-p)).clamp(min=_MIN_QUANTA)


def _ray_variance(p: Tensor, photons: Tensor, electronic: float) -> Tensor:
    """Compute the variance of each line integral at full dose."""
    quanta = _quanta(p, photons)
    return (1.0 + electronic / quanta) / quanta


def _added_std(p: Tensor, dose: float, photons: float | Tensor, electronic: float) -> Tensor:
    """Compute the standard deviation of the noise to add to each line integral (Yu 2012, eq. 7)."""
    quanta = _quanta(p, photons)
    share = (1.0 - dose) / dose
    excess = 1.0 + (1.0 + dose) / dose * electronic / quanta
    return torch.sqrt(share / quanta * excess)


def _mean_over_rays(values: Tensor, p: Tensor) -> Tensor:
    """Average over the rays of each slice [slice], weighted by their line integrals."""
    return (values * p).sum((1, 2)) / p.sum((1, 2)).clamp(min=1e-9)


def _reconstruct_noise(
    std: Tensor, hu: Tensor, pixel_mm: float, generators: Sequence[torch.Generator]
) -> Tensor:
    """Reconstruct independent ray noise, std [slice, view, bin], to HU [slice, row, column].

    Generators share the slices evenly.
    """
    slices, rows, columns = hu.shape
    bins = bins_across(rows, columns, DETECTOR_BIN_PIXELS)
    fine = functional.interpolate(std[:, None], (VIEWS, bins), mode="bilinear")[:, 0]
    shape = (slices // len(generators), VIEWS, bins)
    drawn = torch.cat([torch.randn(shape, generator=g, device=g.device) for g in generators])
    image = filtered_back_projection(fine * drawn.to(fine), pixel_mm, rows, columns)
    return image * (1000.0 / WATER_PER_MM)


@lru_cache(maxsize=32)
def _texture_gain(rows: int, columns: int, cutoff: float, device: torch.device) -> Tensor:
    wanted = image_power(rows, columns, cutoff)
    present = image_power(rows, columns, math.inf)
    gain = np.sqrt(wanted / np.maximum(present, 1e-12))
    return torch.from_numpy(gain[:, : columns // 2 + 1].astype(np.float32)).to(device)
