"""Dashboard, alert rules and documentation speak of metrics that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from support.ledger_factory import NodeFixture

from dicom_node import telemetry
from dicom_node.health.snapshot import take_snapshot
from dicom_node.web.metrics import render_metrics

REPOSITORY = Path(__file__).parents[2]
ALERTS = REPOSITORY / "deploy" / "prometheus" / "alerts.yaml"
DASHBOARD = REPOSITORY / "deploy" / "grafana" / "dicom-node.json"
PAGE = REPOSITORY / "docs" / "monitoring.md"

METRIC = re.compile(r"\bdicom_node_[a-z_]+\b")
LABELS = re.compile(r"(dicom_node_[a-z_]+)\{([^}]*)\}")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Every sample's name and its labels, of a node in which everything has happened."""
    node = NodeFixture(tmp_path_factory.mktemp("node"))
    telemetry.open_telemetry(node.settings.metrics_folder, process="receive")
    count_everything()
    put_everything(node)
    snapshot = take_snapshot(
        node.settings, node.ledger, certificate_days=lambda: {"node.pem": 1.0}, now=3e6
    )
    text = render_metrics(node.settings, snapshot).decode()
    telemetry.close_telemetry()
    node.ledger.close()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def count_everything() -> None:
    telemetry.image_received("stored", 1)
    telemetry.image_refused(0xA700)
    telemetry.association("accepted")
    telemetry.image_sent("pacs", True, 1)
    telemetry.image_sent("pacs", False, 1)
    telemetry.stage_seconds("denoise", 1.0)


def put_everything(node: NodeFixture) -> None:
    """A result that its destination lacks."""
    node.job()
    node.claim_job(2e6).derived(1)


def expressions() -> Iterator[tuple[str, str]]:
    """(where, PromQL)."""
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def test_expressions_name_metrics_that_exist(samples: dict[str, set[str]]) -> None:
    unknown = [
        (where, name)
        for where, expression in expressions()
        for name in METRIC.findall(expression)
        if name not in samples
    ]
    assert unknown == []


def test_expressions_select_by_labels_that_exist(samples: dict[str, set[str]]) -> None:
    unknown = [
        (where, name, label)
        for where, expression in expressions()
        for name, selector in LABELS.findall(expression)
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)
        if label not in samples[name] | {"instance", "job"}
    ]
    assert unknown == []


def test_every_metric_is_explained(samples: dict[str, set[str]]) -> None:
    page = PAGE.read_text(encoding="utf-8").replace("…", "dicom_node_disk")
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in samples}
    assert [name for name in sorted(families) if name not in page] == []


def test_every_alarm_says_what_to_do() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rules: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    assert [rule["alert"] for rule in rules if rule["alert"] not in page] == []
    assert [rule["alert"] for rule in rules if rule["labels"]["severity"] not in SEVERITIES] == []
    assert [rule["alert"] for rule in rules if not rule["annotations"]["summary"]] == []


SEVERITIES = {"critical", "warning", "info"}


def test_panels_do_not_overlap() -> None:
    cells = [
        (x, y)
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
