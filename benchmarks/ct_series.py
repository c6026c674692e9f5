"""Generated CT series as DICOM files: noise to send, and phantoms to denoise."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.phantoms import noisy_phantom
from dicom_node.ct.files import file_meta_for, write_file
from dicom_node.ct.pixels import Encoding
from dicom_node.ct.simulated_scan import Scan, scan_datasets, write_scan
from man_core import Volume


def write_series(folder: Path, images: int, *, seed: int, size: int = 512) -> list[Path]:
    """Write a CT series of noise with 16 bits per pixel; all images differ."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed)
    slices = noise.normal(0.0, 30.0, (1, size, size)).astype(np.float32)
    scan = Scan(
        patient_name="BENCHMARK", patient_id="BENCHMARK", study=f"benchmark {seed}",
        description="Benchmark", series_number=1, encoding=Encoding(1.0, -1024.0, 12, False, None),
    )  # fmt: skip
    volume = Volume(np.repeat(slices, images, axis=0), (1.0, 0.7, 0.7), np.eye(4))
    paths = []
    for at, dataset in enumerate(scan_datasets(volume, scan), 1):
        pixels = np.frombuffer(dataset.PixelData, np.uint16)
        dataset.PixelData = np.roll(pixels, 977 * at).tobytes()
        dataset.file_meta = file_meta_for(dataset)
        paths.append(folder / f"{at:04d}.dcm")
        write_file(dataset, paths[-1])
    return paths


def write_phantom(folder: Path, slices: int, *, size: int = 512, seed: int = 1) -> list[Path]:
    """Write a CT series of an abdomen with white noise; all images differ.

    Args:
        folder: Created if missing.
        slices: Number of files.
        size: Rows and columns.
        seed: Seed of patient and noise; other seeds give other patients.
    """
    return write_scan(
        noisy_phantom(slices, size=size, seed=seed),
        folder,
        Scan(patient_id=f"BENCHMARK-{seed}", study=f"benchmark {seed} {slices}x{size}"),
    )
