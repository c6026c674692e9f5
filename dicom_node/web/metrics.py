"""Prometheus metrics: the state of the node, and what its processes count (``telemetry``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from dicom_node import telemetry
from dicom_node.health import KINDS, Snapshot, find_problems
from dicom_node.health.snapshot import Queues
from dicom_node.ledger.states import DeliveryState, JobState, SeriesState
from dicom_node.product import PRODUCT_VERSION
from dicom_node.settings import Settings
from dicom_node.telemetry import PREFIX

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render_metrics(settings: Settings, snapshot: Snapshot) -> bytes:
    """Render all metrics in the text format of Prometheus."""
    registry = CollectorRegistry()
    telemetry.collect_into(registry, settings.metrics_folder)
    registry.register(_State(lambda: snapshot))
    return generate_latest(registry)


class _State(Collector):
    def __init__(self, look: Callable[[], Snapshot]) -> None:
        self._look = look

    def collect(self) -> Iterator[GaugeMetricFamily | InfoMetricFamily]:
        snapshot = self._look()
        info = InfoMetricFamily(f"{PREFIX}build", "Version of the node.")
        info.add_metric([], {"version": PRODUCT_VERSION})
        yield info
        problems = Counter(problem.kind for problem in find_problems(snapshot))
        yield _gauge("healthy", "Whether the health check passes.", float(not problems))
        yield _gauges(
            "troubles",
            "Problems of the node, by kind.",
            "kind",
            {kind.name: float(problems[kind.name]) for kind in KINDS},
        )
        yield _gauge(
            "ledger_up", "Whether the ledger can be read.", float(snapshot.queues is not None)
        )
        yield _gauge(
            "custody_ok",
            "Whether ledger and storage belong together and can be written.",
            float(not snapshot.custody),
        )
        yield _gauges(
            "unknown_files",
            "Images, and results of whole series, that are in no ledger.",
            "kind",
            {"image": snapshot.unknown_images, "result": snapshot.unknown_results},
        )
        yield from _disk(snapshot)
        yield from _life(snapshot)
        if snapshot.queues is not None:
            yield from _queues(snapshot.queues, snapshot.at)


def _life(snapshot: Snapshot) -> Iterator[GaugeMetricFamily]:
    yield _gauges(
        "part_silent_seconds",
        "Seconds since the last heartbeat of a part.",
        "part",
        dict(snapshot.silent_seconds),
    )
    yield _gauges(
        "sweep_silent_seconds",
        "Seconds since the last success of a housekeeping sweep.",
        "sweep",
        {sweep.name: sweep.silent_seconds for sweep in snapshot.sweeps},
    )
    yield _gauges(
        "certificate_days_left",
        "Days until a certificate expires.",
        "file",
        dict(snapshot.certificate_days),
    )


def _disk(snapshot: Snapshot) -> Iterator[GaugeMetricFamily]:
    if snapshot.disk_free is not None and snapshot.disk_total is not None:
        yield _gauge(
            "disk_free_bytes", "Free bytes on the disk of the storage.", snapshot.disk_free
        )
        yield _gauge(
            "disk_total_bytes", "Size of the disk of the storage in bytes.", snapshot.disk_total
        )
    yield _gauge(
        "disk_reserve_bytes", "Free bytes below which nothing is received.", snapshot.disk_reserve
    )


def _queues(queues: Queues, now: float) -> Iterator[GaugeMetricFamily]:
    counts, waiting = queues.counts, queues.waiting
    series = {state.value: float(counts.series.get(state, 0)) for state in SeriesState}
    jobs = {state.value: float(counts.jobs.get(state, 0)) for state in JobState}
    ages = {
        "arriving": _age(waiting.arriving, now),
        "denoise": _age(waiting.denoise, now),
        "off_peak": _age(waiting.off_peak, now),
    }
    sending = {name: _age(since, now) for name, since in waiting.send.items()}
    yield _gauges("series", "Received series by state.", "state", series)
    yield _gauges("jobs", "Jobs by state.", "state", jobs)
    yield _gauges(
        "waiting_seconds",
        "Age of the oldest work that waits in a stage; 0 for none.",
        "stage",
        ages,
    )
    yield _deliveries(counts.deliveries)
    yield _gauges(
        "paused",
        "1 while an operator has paused a stage.",
        "stage",
        {"denoise": 0.0, "send": 0.0, **{pause.stage: 1.0 for pause in counts.pauses}},
    )
    yield _gauges(
        "delivery_waiting_seconds",
        "Age of the oldest results that a destination has not received.",
        "destination",
        sending,
    )
    yield _gauges(
        "commitment_waiting_seconds",
        "Age of the oldest storage commitment that a destination has not answered.",
        "destination",
        {name: _age(since, now) for name, since in waiting.commit.items()},
    )


def _deliveries(counts: Mapping[str, Mapping[DeliveryState, int]]) -> GaugeMetricFamily:
    text = "Results by destination and state."
    family = GaugeMetricFamily(f"{PREFIX}deliveries", text, labels=["destination", "state"])
    for destination, states in counts.items():
        for state in DeliveryState:
            family.add_metric([destination, state.value], states.get(state, 0))
    return family


def _age(since: float | None, now: float) -> float:
    return 0.0 if since is None else max(0.0, now - since)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def _gauges(name: str, text: str, label: str, values: dict[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(PREFIX + name, text, labels=[label])
    for labelled, value in values.items():
        family.add_metric([labelled], value)
    return family
