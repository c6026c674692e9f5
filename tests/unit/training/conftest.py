"""A small training set made of arrays, without DICOM or projection."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.data.manifest import (
    Manifest,
    SeriesEntry,
    SliceEntry,
    noise_file,
    save_manifest,
    slices_file,
)
from training.data.texture import table_cutoffs

SIZE = 64
NOISE_HU = 10.0


def add_series(
    root: Path,
    manifest: Manifest,
    name: str,
    patient: str,
    split: str,
    *,
    slices: int = 2,
    full: SeriesEntry | None = None,
    level: float = 40.0,
) -> SeriesEntry:
    """Constant slices with plain noise images whose table says 1 HU at every cutoff."""
    random = np.random.default_rng(len(manifest.series))
    shape = (slices, SIZE, SIZE)
    entry = SeriesEntry.model_validate(
        {
            "series": name,
            "patient": patient,
            "split": split,
            "shape": shape,
            "pixel_mm": 0.7,
            "cutoff": 1.2,
            "dose": 0.25 if full else 1.0,
            "full_series": full.series if full else None,
            "slices": [
                SliceEntry(
                    noise_hu=NOISE_HU,
                    noise_table=[1.0] * len(table_cutoffs()),
                    full_slice=index if full else None,
                )
                for index in range(slices)
            ],
        }
    )
    for folder in ("slices", "noise"):
        (root / folder).mkdir(exist_ok=True)
    np.save(slices_file(root, name), np.full(shape, level, dtype=np.int16))
    np.save(noise_file(root, name, 0), random.normal(0, 1, shape).astype(np.float16))
    manifest.series.append(entry)
    return entry


@pytest.fixture
def small_set(tmp_path: Path) -> Path:
    """Three patients for fitting (one with many slices), one for validation; no real pair."""
    root = tmp_path / "set"
    root.mkdir()
    manifest = Manifest()
    add_series(root, manifest, "aa", "p1", "train", slices=20)
    add_series(root, manifest, "bb", "p2", "train", level=41)
    add_series(root, manifest, "cc", "p3", "train", level=42)
    add_series(root, manifest, "dd", "p4", "validation", level=50)
    save_manifest(root, manifest)
    return root


@pytest.fixture
def paired_set(tmp_path: Path) -> Path:
    """One patient with a real low-dose partner, 7 HU above the full dose."""
    root = tmp_path / "pairs"
    root.mkdir()
    manifest = Manifest()
    full = add_series(root, manifest, "ee", "p1", "train", level=40)
    add_series(root, manifest, "ff", "p1", "train", full=full, level=47)
    save_manifest(root, manifest)
    return root
