"""A device fault: what a worker does when its device fails during a job, in a process of its own.

``python -m benchmarks.gpu_check.faults DEVICE FOLDER`` is that process: it makes a queue with one
job, works on it as ``dicom-node work`` does, and damages the device before the first batch.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu_check.models import PRECISIONS, variants
from benchmarks.gpu_check.part import Bench, Figure, OverBudgetError
from benchmarks.machine import REPOSITORY
from man_core import Condition, denoise_volume

SLICES = 3

FAR_BYTES = 1 << 42
"""Length of the memory that is claimed to lie behind a small tensor; its end belongs to nobody."""

SEED = 7


def figures(bench: Bench) -> Iterator[Figure]:
    """Yield how the worker ended, and whether this process can still use the device."""
    from dicom_node.denoising import worker  # noqa: F401 - a missing package is told here

    series = bench.volume(SLICES)
    denoiser = variants(bench)[0].load(bench.device, PRECISIONS[0])
    before, _ = denoise_volume(series, denoiser, Condition(), seed=SEED, limits=None)
    code, said = _child(bench)
    fault = said.get("error") == "DeviceFault"
    yield Figure("error of the worker", str(said.get("error")), passed=fault)
    yield Figure("its cause", str(said.get("cause")))
    ended = code == said.get("exit_code") and fault
    yield Figure("exit code of the worker", code, passed=ended)
    waits = said.get("state") in ("QUEUED", "RETRY_WAIT")
    yield Figure("state of the job", str(said.get("state")), passed=waits)
    files = said.get("derived")
    yield Figure("derived files", files, passed=files == 0)  # type: ignore[arg-type]
    after, _ = denoise_volume(series, denoiser, Condition(), seed=SEED, limits=None)
    equal = bool(np.array_equal(before.hu, after.hu))
    yield Figure("other processes go on, same bytes", "yes" if equal else "no", passed=equal)


def _child(bench: Bench) -> tuple[int, dict[str, object]]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu_check.faults",
        str(bench.device),
        str(bench.folder),
    ]
    limit = max(1.0, bench.budget.left)
    try:
        done = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise OverBudgetError from error
    lines = done.stdout.splitlines()
    if not lines:
        raise RuntimeError(f"The worker ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.returncode, json.loads(lines[-1])


def main() -> None:
    """Run the process whose device fails."""
    from benchmarks.gpu_check.faulty_worker import end_of_worker

    device, folder = torch.device(sys.argv[1]), Path(sys.argv[2])
    error, state, derived = end_of_worker(device, folder, damage)
    said = {
        "error": type(error).__name__,
        "cause": str(error.__cause__).splitlines()[0],
        "exit_code": error.exit_code,
        "state": state,
        "derived": derived,
    }
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    sys.exit(error.exit_code)


class _Beyond:
    """A tensor that claims more memory than it has (the CUDA array interface is trusted)."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.__cuda_array_interface__ = {
            "data": (tensor.data_ptr(), False),
            "shape": (FAR_BYTES,),
            "typestr": "|u1",
            "version": 3,
        }


def damage(device: torch.device) -> None:
    """Make the device fail for this process: an illegal access; on a CPU, its error alone."""
    if device.type != "cuda":
        raise torch.AcceleratorError("No device failed: a CPU is checked with the error alone.")
    small = torch.zeros(1, dtype=torch.uint8, device=device)
    beyond = torch.as_tensor(_Beyond(small), device=device)
    beyond[-1:].add(1)  # launched, and found out by whoever uses the device next


if __name__ == "__main__":
    main()
