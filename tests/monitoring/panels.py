"""The panels' queries with Grafana's variables filled in, run against a real Prometheus."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.integration.prometheus import Outcome, PrometheusServer
from tests.monitoring import files

RANGE_SECONDS = 180
STEP_SECONDS = 2


@dataclass(frozen=True)
class Query:
    """One target of one panel (or an annotation), as it is sent to Prometheus."""

    board: str
    panel: str
    expr: str
    is_instant: bool
    legend: str
    type: str

    def run(
        self, prometheus: PrometheusServer, *, seconds: int = RANGE_SECONDS, end: float | None = None
    ) -> Outcome:
        """Raises QueryError with Prometheus's words."""
        if self.is_instant:
            return prometheus.evaluate(self.expr)
        return prometheus.evaluate_range(self.expr, seconds=seconds, step=STEP_SECONDS, end=end)


def filled(expr: str, values: Mapping[str, str]) -> str:
    """The expression with every variable replaced; an unknown one is an error."""

    def value(match: re.Match[str]) -> str:
        return values[match[1] or match[2]]

    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", value, expr)


def variables(host: str, seconds: int = RANGE_SECONDS) -> dict[str, str]:
    """What Grafana would fill in, with "All" for what has it."""
    return {
        "job": "dockmesh",
        "region": ".*",
        "host": host,
        "stack": ".*",
        "__rate_interval": "20s",
        "__interval": "10s",
        "__range": f"{seconds}s",
    }


def boards() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(files.DASHBOARDS.glob("*.json"))}


def queries(board: dict[str, Any], host: str, seconds: int = RANGE_SECONDS) -> Iterator[Query]:
    """All Prometheus queries of a dashboard: panels, then annotations."""
    single = any(one["name"] == "host" and not one.get("multi") for one in board["templating"]["list"])
    values = variables(host if single else ".*", seconds)
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            if target["datasource"]["type"] == "prometheus":
                yield Query(
                    board["uid"],
                    panel["title"],
                    filled(target["expr"], values),
                    bool(target.get("instant")),
                    target.get("legendFormat", ""),
                    panel["type"],
                )
    for annotation in board["annotations"]["list"]:
        expr = filled(annotation["target"]["expr"], values)
        yield Query(board["uid"], f"annotation {annotation['name']}", expr, False, "", "annotation")


def values_of(outcome: Outcome) -> list[float]:
    """Every number of the answer."""
    if outcome.kind == "matrix":
        return [float(value) for series in outcome.result for _, value in series["values"]]
    return [float(series["value"][1]) for series in outcome.result]


def has_data(outcome: Outcome) -> bool:
    """Whether there is a number that is one."""
    return any(not math.isnan(value) for value in values_of(outcome))
