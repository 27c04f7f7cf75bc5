"""Both ways: what rules and dashboards name is on the real page, and all that is on the page is used."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from tests.monitoring import files

GOLDEN = files.ROOT / "tests" / "golden" / "metrics.txt"
SUFFIXES = re.compile(r"_(?:bucket|sum|count)$")


def families() -> dict[str, str]:
    """Name to type of every family on the golden page."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", GOLDEN.read_text(), re.M))


def on_the_page(name: str) -> bool:
    known = families()
    if name in known:
        return known[name] != "histogram"
    return known.get(SUFFIXES.sub("", name)) == "histogram"


def rule_expressions() -> Iterator[str]:
    for path in (files.ALERT_RULES, files.RECORDING_RULES):
        for rule in files.rules(path):
            yield rule["expr"]


def panel_expressions() -> Iterator[str]:
    for path in files.DASHBOARDS.glob("*.json"):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                if target["datasource"]["type"] == "prometheus":
                    yield target["expr"]


def unknown(expressions: Iterator[str]) -> set[str]:
    return {name for expr in expressions for name in files.names_in(expr) if not on_the_page(name)}


def test_every_metric_in_the_rules_is_on_the_page() -> None:
    assert unknown(rule_expressions()) == set()


def test_every_metric_on_the_dashboards_is_on_the_page() -> None:
    assert unknown(panel_expressions()) == set()


def test_a_typo_would_be_found() -> None:
    assert unknown(iter(['dockmesh_host_total{status="online"} > 0'])) == {"dockmesh_host_total"}
    assert unknown(iter(["rate(dockmesh_agent_rtt_seconds[5m])"])) == {"dockmesh_agent_rtt_seconds"}


def test_every_recording_rule_that_is_read_exists() -> None:
    recorded = {rule["record"] for rule in files.rules(files.RECORDING_RULES)}
    read = {
        name
        for expr in (*rule_expressions(), *panel_expressions())
        for name in re.findall(r"\b[a-z]+:dockmesh_[a-z0-9_]+:[a-z0-9_]+", expr)
    }
    assert read == recorded


def test_every_family_of_dockmesh_is_on_a_panel() -> None:
    recorded = {rule["record"]: rule["expr"] for rule in files.rules(files.RECORDING_RULES)}
    text = "\n".join(panel_expressions())
    text += "\n".join(expr for name, expr in recorded.items() if name in text)
    used = {SUFFIXES.sub("", name) for name in files.names_in(text)}
    wanted = {name for name in families() if name.startswith("dockmesh_")}
    assert wanted - used == set()


def test_labels_in_selectors_are_the_pages() -> None:
    """A wrong label in a selector would silently match nothing."""
    page = GOLDEN.read_text()
    added_by_prometheus = {"job", "instance", "region", "exported_job", "connection"}
    for expr in (*rule_expressions(), *panel_expressions()):
        for name, selector in re.findall(r"\b(dockmesh_\w+)\{([^}]*)\}", expr):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) - added_by_prometheus
            sample = re.search(rf"^{name}\{{(.*)\}} ", page, re.M)
            known = set(re.findall(r'(\w+)="', sample[1])) if sample else set()
            assert labels <= known, f"{name}: {labels - known}"
