"""Uncertainty over patients: bootstrap interval of a mean, and a paired permutation test."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
"""Resamples of the bootstrap, and of the test where the patients are many."""

RESAMPLING_SEED = 0
"""Fixed seed, so that the same values give the same interval and the same p."""

INTERVAL = (2.5, 97.5)
"""Percentiles of the 95 % interval."""

MAX_EXACT_PATIENTS = 14
"""Up to this number of patients all sign assignments are enumerated, 16,384 at most."""

TIE = 1e-9
"""Share of the observed mean by which rounding may make an equal mean smaller."""

Values = NDArray[np.float64]


def bootstrap(values: Values, weights: Values | None = None) -> tuple[float, float]:
    """Estimate the percentile interval of the mean of independent values [patient] (Efron 1979).

    Whole patients are drawn, since the slices of one patient are not independent (Field and Welsh
    2007, J R Stat Soc B 69:369). It is too narrow for few patients: below about ten it is only a
    hint. NaN for a single one, or if a value is not finite.

    Args:
        values: Mean of each patient [patient].
        weights: Slices of each patient [patient], for the mean over slices; None: equal.
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return math.nan, math.nan
    weights = np.ones(len(values)) if weights is None else weights
    random = np.random.default_rng(RESAMPLING_SEED)
    drawn = random.integers(len(values), size=(RESAMPLES, len(values)))
    means = (weights * values)[drawn].sum(axis=1) / weights[drawn].sum(axis=1)
    low, high = np.percentile(means, INTERVAL)
    return float(low), float(high)


def sign_flip_p(differences: Values) -> float:
    """Compute the two-sided p of paired differences [patient] against a mean of zero.

    If two methods were exchangeable, each difference could as well have the other sign (Fisher
    1935, The Design of Experiments, section 21; Ernst 2004, Stat Sci 19:676). All assignments of
    signs are counted for up to ``MAX_EXACT_PATIENTS`` patients; for more, ``RESAMPLES`` random ones
    beside the observed one (Phipson and Smyth 2010, Stat Appl Genet Mol Biol 9:39). The smallest p
    of n patients is 2 / 2**n, for five 0.06.

    Returns:
        Probability; NaN for a single patient, or if a difference is not finite.
    """
    count = len(differences)
    if count < 2 or not np.isfinite(differences).all():
        return math.nan
    observed = abs(differences.mean()) * (1 - TIE)
    if count <= MAX_EXACT_PATIENTS:
        signs = np.array(list(product((-1.0, 1.0), repeat=count)))
        return float(np.mean(np.abs(signs @ differences) / count >= observed))
    random = np.random.default_rng(RESAMPLING_SEED)
    signs = random.choice((-1.0, 1.0), size=(RESAMPLES, count))
    as_large = int(np.sum(np.abs(signs @ differences) / count >= observed))
    return (as_large + 1) / (RESAMPLES + 1)
