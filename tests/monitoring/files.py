"""Where the files of monitoring/ are, and what tests ask of them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support import require

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "monitoring"
PROMETHEUS = MONITORING / "prometheus"
ALERT_RULES = PROMETHEUS / "rules" / "dockmesh.alerts.yml"
RECORDING_RULES = PROMETHEUS / "rules" / "dockmesh.recording.yml"
ALERTMANAGER = MONITORING / "alertmanager" / "alertmanager.yml"
RUNBOOKS = MONITORING / "runbooks.md"
DASHBOARDS = MONITORING / "grafana" / "dashboards"
RULE_TESTS = Path(__file__).parent / "rules"

METRIC_NAME = re.compile(r"\b(?:dockmesh|django|process|python)_[a-z0-9_]+\b")


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Runs a checker, and fails with all it said unless it ends with 0."""
    program = require(str(command[0]))
    done = subprocess.run(
        [program, *map(str, command[1:])], cwd=cwd, capture_output=True, text=True, timeout=120
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


def prometheus_flags() -> list[str]:
    """What compose.yaml switches on in Prometheus."""
    command = yaml.safe_load((MONITORING / "compose.yaml").read_text())["services"]["prometheus"]["command"]
    return [word for word in command if word.startswith("--enable-feature=")]


def rules(path: Path) -> list[dict[str, Any]]:
    """All rules of a rule file."""
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def alert_rules() -> list[dict[str, Any]]:
    return rules(ALERT_RULES)


def alert_names() -> list[str]:
    return [rule["alert"] for rule in alert_rules()]


def names_in(expression: str) -> Iterator[str]:
    """Names of dockmesh's metrics in an expression, without those of recording rules and label names."""
    without_selectors = re.sub(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)", "", expression)
    for match in METRIC_NAME.finditer(without_selectors):
        if not without_selectors[: match.start()].endswith(":"):
            yield match.group()
