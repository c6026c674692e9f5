"""One seed from the series and the model: the same series gives the same bytes."""

from __future__ import annotations

import hashlib

SEED_BYTES = 8
"""torch's generators take 64 bits."""


def series_seed(series_uid: str, digest: str) -> int:
    """Seed of the noise that sampling starts from.

    Args:
        series_uid: Series Instance UID of the source.
        digest: ``ModelCard.digest`` of the model.
    """
    name = f"{series_uid}\n{digest}".encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:SEED_BYTES], "big") >> 1
