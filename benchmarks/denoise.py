"""Cost of a slice: MAN against RED-CNN and a conditional DDPM in pixel space, on one device.

``python -m benchmarks.denoise`` runs each in turn, round after round, on 512 x 512 slices, and
prints seconds, multiply-adds and memory of a slice and their ratios to MAN. Of the 1000 steps of
the DDPM only ``--ddpm-steps`` are run and the time is multiplied, since all steps cost the same.
RED-CNN and DDPM have random weights, which take as long as trained ones.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.device_memory import forget_peak, peak_above
from benchmarks.machine import hardware, median, table, write
from benchmarks.networks import (
    DDPM,
    LONG_STEPS,
    MAN,
    MAN_LONG,
    RED_CNN,
    Network,
    Place,
    ddpm,
    man,
    red_cnn,
)
from man_core import ModelError
from man_core.device import choose_device

WARM_UP_SIZE = 64
"""Side of the slices for warm-up on a CPU; a GPU selects its kernels by size and warms up with the
complete work."""

CUDA_BATCHES = (1, 4, 16)
"""Slices at once on a GPU."""


@dataclass(frozen=True)
class Run:
    """Cost of one call, extrapolated to all steps.

    Attributes:
        network: Name of the network.
        batch: Slices in the call.
        seconds: Time per slice.
        processor: Core seconds per slice, less affected by other work on the machine.
        mib: Additional memory of the call.
    """

    network: str
    batch: int
    seconds: float
    processor: float
    mib: float


def main(words: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = _parser()
    options = parser.parse_args(words)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        place = Place(choose_device(options.device), options.precision, options.size)
    except ModelError as error:
        parser.error(str(error))
    networks = _networks(options, place)
    runs = _compare(networks, options, place)
    report = {
        "hardware": {**hardware(), **_device(place)},
        "options": vars(options),
        "networks": [_described(network) for network in networks],
        "runs": [asdict(run) for run in runs],
        "ratios": _ratios(networks, runs),
    }
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    _print(report, networks, runs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.denoise", description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, help="threads of the CPU; as torch chooses")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--batches", nargs="+", type=int, help="slices at once")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ddpm-steps", type=int, default=1, help="steps of the 1000 that are run")
    parser.add_argument("--size", type=int, default=512, help="rows and columns of a slice")
    parser.add_argument("--only", nargs="+", choices=[MAN, MAN_LONG, RED_CNN, DDPM])
    parser.add_argument("--json", help="file for the figures")
    return parser


def _networks(options: argparse.Namespace, place: Place) -> list[Network]:
    makers: Mapping[str, Callable[[], Network]] = {
        MAN: lambda: man(MAN, None, place),
        MAN_LONG: lambda: man(MAN_LONG, LONG_STEPS, place),
        RED_CNN: lambda: red_cnn(place),
        DDPM: lambda: ddpm(place, options.ddpm_steps),
    }
    return [make() for name, make in makers.items() if name in (options.only or makers)]


def _compare(networks: Sequence[Network], options: argparse.Namespace, place: Place) -> list[Run]:
    for network in networks:
        network.run(1, WARM_UP_SIZE)
    work = _work(networks, options, place)
    if place.device.type == "cuda":
        for network, batch in work:
            network.run(batch, place.size)
    runs = []
    for network, batch in work * options.rounds:
        runs.append(_run(network, batch, place))
        write(f"{network.name:<14} batch {batch:<3} {runs[-1].seconds:10.4f} s a slice")
    return runs


def _work(
    networks: Sequence[Network], options: argparse.Namespace, place: Place
) -> list[tuple[Network, int]]:
    """Return one round: networks with their batch sizes."""
    if place.device.type == "cpu" and not options.batches:
        return [(network, network.on_cpu) for network in networks]
    return [(network, batch) for batch in options.batches or CUDA_BATCHES for network in networks]


def _run(network: Network, batch: int, place: Place) -> Run:
    before = forget_peak(place.device)
    begin, begin_processor = time.perf_counter(), time.process_time()
    network.run(batch, place.size)  # gives its result on the CPU: the device has finished
    seconds, processor = time.perf_counter() - begin, time.process_time() - begin_processor
    whole = network.share * batch
    mib = peak_above(place.device, before)
    return Run(network.name, batch, seconds / whole, processor / whole, mib)


def _device(place: Place) -> dict[str, str]:
    name = "cpu" if place.device.type == "cpu" else torch.cuda.get_device_name(place.device)
    return {
        "device": name,
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "precision": place.precision,
    }


def _described(network: Network) -> dict[str, object]:
    return {key: value for key, value in vars(network).items() if key != "run"}


def _seconds(runs: Sequence[Run]) -> dict[tuple[str, int], float]:
    """Return the median by network and batch size."""
    keys = {(run.network, run.batch): None for run in runs}
    return {
        key: median([run.seconds for run in runs if (run.network, run.batch) == key])
        for key in keys
    }


def _ratios(networks: Sequence[Network], runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """Return ratios to MAN at its fastest: multiply-adds, and seconds for every batch size."""
    seconds, gmac = _seconds(runs), {network.name: network.gmac for network in networks}
    if MAN not in gmac:
        return {}
    fastest = min(value for (name, _), value in seconds.items() if name == MAN)
    ratios = {name: {"multiply-adds": round(value / gmac[MAN], 3)} for name, value in gmac.items()}
    for (name, batch), value in seconds.items():
        ratios[name][f"seconds, batch {batch}"] = round(value / fastest, 3)
    return ratios


HEAD = (
    "network", "steps", "run", "M values", "batch", "s a slice", "lowest", "core s", "÷ MAN",
    "GMAC a slice", "÷ MAN", "MiB a call",
)  # fmt: skip
"""Columns of the table."""


def _print(report: Mapping[str, object], networks: Sequence[Network], runs: Sequence[Run]) -> None:
    ratios = _ratios(networks, runs)
    by_name = {network.name: network for network in networks}
    rows = []
    for (name, batch), seconds in _seconds(runs).items():
        mine = [run for run in runs if (run.network, run.batch) == (name, batch)]
        rows.append(_row(by_name[name], mine, seconds, ratios.get(name, {})))
    write(f"\n{json.dumps(report['hardware'])}\n")
    write(table(HEAD, rows))


def _row(
    network: Network, runs: Sequence[Run], seconds: float, ratios: Mapping[str, float]
) -> list[str]:
    batch = runs[0].batch
    return [
        network.name, str(network.steps), str(network.timed), f"{network.parameters / 1e6:.2f}",
        str(batch), f"{seconds:.4f}", f"{min(run.seconds for run in runs):.4f}",
        f"{min(run.processor for run in runs):.4f}",
        f"{ratios.get(f'seconds, batch {batch}', float('nan')):.2f}",
        f"{network.gmac:.1f}", f"{ratios.get('multiply-adds', float('nan')):.2f}",
        f"{max(run.mib for run in runs):.0f}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
