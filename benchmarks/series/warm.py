"""Denoise a folder twice in one process and print the second report: what a worker takes.

A program of its own, which imports the product of the checkout on PYTHONPATH and nothing of the
benchmarks: ``python -P warm.py IN OUT MODEL DEVICE``.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

from dicom_node.ct import prepare_dicom_libraries
from dicom_node.denoising.folder import denoise_folder
from dicom_node.denoising.models import load_model
from dicom_node.denoising.series import DenoiseOptions, GuardOptions
from dicom_node.settings import ModelSettings


def main() -> None:
    """Run the program."""
    source, destination, model, device = sys.argv[1:]
    prepare_dicom_libraries()
    denoiser = load_model(ModelSettings(name=model, device=device))
    options = DenoiseOptions(guard=GuardOptions("flag"))
    for _ in range(2):
        shutil.rmtree(destination, ignore_errors=True)
        begin = time.time()
        (outcome,) = denoise_folder(Path(source), Path(destination), denoiser, options)
        end = time.time()
    report = None if outcome.report is None else outcome.report.to_dict()
    answer = {"begin": begin, "end": end, "error": outcome.error, "report": report}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
