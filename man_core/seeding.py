"""Seed derived from series and model, so that the same series gives the same bytes."""

from __future__ import annotations

import hashlib

SEED_BYTES = 8
"""Size of the seed of a torch generator."""


def series_seed(series_uid: str, digest: str) -> int:
    """Derive the seed of the noise that sampling starts from.

    Args:
        series_uid: Series Instance UID of the source.
        digest: ``ModelCard.digest`` of the model.
    """
    name = f"{series_uid}\n{digest}".encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:SEED_BYTES], "big") >> 1
