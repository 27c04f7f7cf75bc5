"""Writes the dashboards to monitoring/grafana/dashboards/*.json.

    pip install -r requirements-dev.txt
    python -m monitoring.grafana.build

Nobody needs this to use the dashboards: the JSON files are committed, and a test compares them with what
comes out here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import dashboard as sdk
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from monitoring.grafana.boards import (
    alerts,
    backups,
    containers,
    federation,
    fleet,
    host,
    logs,
    server,
    slo,
    stacks,
    versions,
)

FOLDER = Path(__file__).parent / "dashboards"
BOARDS = (fleet, host, stacks, containers, backups, alerts, server, slo, versions, logs, federation)


def render(builder: sdk.Dashboard) -> dict[str, Any]:
    """The dashboard as JSON, with panel ids that count up from 1.

    Leaves out what the SDK adds to everything although Grafana's published types don't have it there.
    """
    board: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(builder.build()))
    for variable in board["templating"]["list"]:
        for name in ("auto", "auto_count", "auto_min", "definition"):
            variable.pop(name, None)
    for shown in (*board["links"], *board["annotations"]["list"]):
        shown.pop("placement", None)  # The SDK's default would hide it in a menu.
    for panel in board["panels"]:
        panel.get("options", {}).pop("footer", None)
    for number, panel in enumerate(board["panels"], start=1):
        panel["id"] = number
        for letter, target in zip("ABCDEFGH", panel.get("targets", ()), strict=False):
            target["refId"] = letter
    return board


def all_dashboards() -> dict[str, dict[str, Any]]:
    """File name to dashboard."""
    boards = [render(module.dashboard()) for module in BOARDS]
    return {f"{board['uid']}.json": board for board in boards}


def text(board: dict[str, Any]) -> str:
    """A dashboard as it stands in its file."""
    return json.dumps(board, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    """Writes every dashboard and removes files of dashboards that are no more."""
    FOLDER.mkdir(exist_ok=True)
    boards = all_dashboards()
    for path in FOLDER.glob("*.json"):
        if path.name not in boards:
            path.unlink()
    for name, board in boards.items():
        (FOLDER / name).write_text(text(board))
        print(FOLDER / name)


if __name__ == "__main__":
    main()
