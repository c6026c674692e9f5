"""A node's web server on loopback, and its answers."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from dicom_node import telemetry
from dicom_node.settings import Settings
from dicom_node.web import web_served
from support.ledger_factory import NodeFixture


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: str

    def json(self) -> Any:
        return json.loads(self.body)

    def metrics(self) -> dict[tuple[str, str], float]:
        """(name, value of its only label) to value."""
        return {
            (sample.name, next(iter(sample.labels.values()), "")): sample.value
            for family in text_string_to_metric_families(self.body)
            for sample in family.samples
        }


def ask(port: int, path: str, method: str = "GET") -> Answer:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return Answer(answer.status, dict(answer.headers), answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, dict(error.headers), error.read().decode())


@contextlib.contextmanager
def serving(settings: Settings, days: Mapping[str, float] | None = None) -> Iterator[int]:
    with web_served(settings, certificate_days=lambda: days or {}) as port:
        assert port is not None
        yield port


def all_parts_run(node: NodeFixture) -> None:
    """Every part has just been heard of."""
    for part in ("receive", "work", "deliver", "serve"):
        telemetry.open_telemetry(node.settings.metrics_folder, process=part)
