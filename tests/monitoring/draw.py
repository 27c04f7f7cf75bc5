"""Draws every dashboard from live data into monitoring/images/*.png, so that a person can look at it.

    python -m tests.monitoring.draw

Starts a whole installation with a simulated fleet on which things happen for three minutes, asks Prometheus
every panel's queries, and lets uPlot in a headless Chromium draw the answers in the panels' places. This is
not Grafana: it shows what is in the panels, not how Grafana paints them. uPlot comes from npm for the run.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.monitoring import panels
from tests.monitoring.files import MONITORING

UPLOT = "1.6.32"
IMAGES = MONITORING / "images"
PAGE = Path(__file__).with_name("draw.html")
SECONDS = 180


def answers(board: dict[str, Any], prometheus: Any, host: str) -> list[dict[str, Any]]:
    """Each panel with the answers to its queries."""
    asked: dict[str, list[dict[str, Any]]] = {}
    end = time.time()
    for query in panels.queries(board, host, SECONDS):
        outcome = query.run(prometheus, seconds=SECONDS, end=end)
        asked.setdefault(query.panel, []).append(
            {"kind": outcome.kind, "legend": query.legend, "result": outcome.result}
        )
    return [panel | {"answers": asked.get(panel["title"], [])} for panel in board["panels"]]


def live(installed: Any) -> None:
    """Three minutes in the life of a fleet."""
    fleet, api = installed.fleet, installed.api
    names = fleet.names
    for rule in (
        {"name": "Host offline", "kind": "host_offline", "severity": "critical"},
        {"name": "Stack in error", "kind": "stack_error", "severity": "warning"},
    ):
        try:
            api("POST", "alert-rules", rule)
        except AssertionError as error:
            print(error)
    stacks = [
        installed.make_stack(names[index], name) for index, name in enumerate(("shop-eu", "blog", "crm"))
    ]
    jobs = [installed.make_job(names[index], name) for index, name in enumerate(("nightly", "offsite"))]
    installed.make_job(names[2], "new-one")
    installed.server.manage("createtoken", "--name", "ci", "--role", "viewer", "--expires-in", "5d")
    installed.server.manage("createtoken", "--name", "grafana", "--role", "viewer", "--expires-in", "90d")
    stop = threading.Event()

    def operate() -> None:
        turn = 0
        while not stop.wait(5):
            fleet.do_deploys_fail = turn % 10 == 2
            fleet.do_backups_leave_out = 3 * (turn == 20)
            installed.deploy(stacks[turn % len(stacks)])
            if turn % 4 == 0:
                installed.back_up(jobs[turn // 4 % len(jobs)])
            turn += 1

    worker = threading.Thread(target=operate, daemon=True)
    worker.start()
    began = time.monotonic()
    crashed = list(fleet.host(names[1]).containers.values())[:2]
    looping = next(iter(fleet.host(names[3]).containers.values()))
    for at, do in (
        (30, lambda: [one.end(1) for one in crashed]),
        (50, lambda: fleet.silent.add(names[-1])),
        (70, lambda: [one.start("2026-01-01T00:00:00Z") for one in crashed[:1]]),
        (72, lambda: crashed[1].end(137, is_oom_killed=True)),
        (80, lambda: setattr(looping, "state", "restarting")),
        (85, lambda: setattr(looping, "restart_count", 2)),
        (95, lambda: setattr(looping, "restart_count", 3)),
        (100, lambda: fleet.versions.update({names[2]: "0.0.9"})),
        (90, lambda: setattr(fleet.host(names[4]), "docker_down_until", float("inf"))),
        (110, lambda: fleet.silent.clear()),
        (130, lambda: setattr(fleet.host(names[4]), "docker_down_until", 0.0)),
        (140, lambda: fleet.silent.add(names[5])),
        (SECONDS, stop.set),
    ):
        time.sleep(max(0.0, began + at - time.monotonic()))
        do()
    worker.join(60)


def main() -> None:
    """Everything, in about five minutes."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dockmesh.settings")
    from playwright.sync_api import sync_playwright

    from tests.monitoring.installation import installation

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["DOCKMESH_DATA_DIR"] = str(folder / "tests")
        subprocess.run(
            ["npm", "install", "--ignore-scripts", "--no-audit", f"uplot@{UPLOT}"], cwd=folder, check=True
        )
        library = folder / "node_modules" / "uplot" / "dist"
        page_text = PAGE.read_text().replace("/*UPLOT*/", (library / "uPlot.iife.min.js").read_text())
        page_text = page_text.replace("/*STYLE*/", (library / "uPlot.min.css").read_text())
        with installation(folder, hosts=8) as installed:
            live(installed)
            data = {
                name: {
                    "title": board["title"],
                    "panels": answers(board, installed.prometheus, installed.fleet.names[1]),
                }
                for name, board in panels.boards().items()
                if name != "dockmesh-logs"  # Loki does not run here.
            }
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for name, board in data.items():
            page = browser.new_page(viewport={"width": 1500, "height": 900})
            page.set_content(page_text)
            page.evaluate("board => draw(board)", json.loads(json.dumps(board)))
            page.screenshot(path=IMAGES / f"{name}.png", full_page=True)
            page.close()
            print(IMAGES / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
