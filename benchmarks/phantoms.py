"""Noisy phantoms as volumes in HU; needs torch and numpy only."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from man_core import Volume, phantom_series

DISTINCT_SLICES = 8
"""Slices of a phantom that are drawn; longer series repeat them with other noise."""

NOISE_HU = 25.0
"""Noise of the phantoms, standard deviation."""


def noisy_phantom(slices: int, *, size: int = 512, seed: int = 1) -> Volume:
    """Make a volume of an abdomen with white noise; a few slices are repeated with other noise."""
    drawn = _drawn(min(slices, DISTINCT_SLICES), size, seed)
    random = np.random.default_rng(seed)
    hu = random.standard_normal((slices, size, size), dtype=np.float32)
    hu *= NOISE_HU
    hu += drawn.hu[np.arange(slices) % len(drawn.hu)]
    return Volume(hu, drawn.spacing_mm, drawn.affine)


@lru_cache(maxsize=8)
def _drawn(slices: int, size: int, seed: int) -> Volume:
    return phantom_series("abdomen", slices=slices, size=size, seed=seed)
