"""`python -m tests.bench`: builds fleets, starts the peers, measures in turn, prints a table, writes JSON.

Each size runs in a process of its own, with a database of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench.sizes import SIZES


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--sizes", default="S,M,L,XL")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--history", action="store_true", help="5 million audit entries, 1 million deploys at L"
    )
    parser.add_argument("--no-ordinary", action="store_true", help="leave the slow ordinary way out")
    parser.add_argument(
        "--objects",
        action="store_true",
        help="with each host, stack and container by its name; beside pushgateway",
    )
    parser.add_argument(
        "--usage", action="store_true", help="what each container uses, and that alone; beside pushgateway"
    )
    parser.add_argument("--ingest", action="store_true", help="heartbeats instead of scrapes, at L")
    parser.add_argument("--replicas", type=int, default=1, help="with --ingest, on PostgreSQL")
    parser.add_argument("--minutes", type=float, default=1.0, help="of heartbeats and scrapes together")
    parser.add_argument("--json", type=Path, default=Path("bench.json"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        _one(options)
        return
    report: dict[str, Any] = {"machine": _machine(), "database": options.database, "sizes": {}}
    for name in options.sizes.split(","):
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            command = [sys.executable, "-m", "tests.bench", "--one", name, "--json", file.name]
            command += ["--database", options.database, "--rounds", str(options.rounds)]
            command += ["--history"] if options.history and name == "L" else []
            command += ["--no-ordinary"] if options.no_ordinary else []
            command += ["--objects"] if options.objects else []
            command += ["--usage"] if options.usage else []
            command += ["--ingest"] if options.ingest else []
            command += ["--replicas", str(options.replicas), "--minutes", str(options.minutes)]
            subprocess.run(command, check=True)
            report["sizes"][name] = json.loads(Path(file.name).read_text())
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    from tests.bench.report import table

    print(table(report))


def _one(options: argparse.Namespace) -> None:
    """Measure one size in this process, which Django is set up in for the size's own database."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dockmesh-bench-")))
        url = ""
        if options.database == "postgresql":
            from tests.integration.postgres import PostgresServer

            server = stack.enter_context(PostgresServer(durable=True, settings={"shared_buffers": "256MB"}))
            url = server.create_database()
        for name in [name for name in os.environ if name.startswith("DOCKMESH_")]:
            del os.environ[name]
        os.environ["DJANGO_SETTINGS_MODULE"] = "dockmesh.settings"
        os.environ["DOCKMESH_DATA_DIR"] = str(folder / "data")
        if url:
            os.environ["DOCKMESH_DATABASE_URL"] = url
        import django

        from tests.bench.measure import Bench

        size = SIZES[options.one]
        bench = Bench(
            size,
            folder,
            url,
            subject="usage" if options.usage else "objects" if options.objects else "fleet",
            log=lambda line: print(line, file=sys.stderr, flush=True),
        )
        django.setup()
        bench.build()
        if options.ingest:
            bench.ingest(replicas=options.replicas, minutes=options.minutes)
            options.json.write_text(json.dumps({"series": bench.series(), "figures": bench.figures.values}))
            return
        rounds = options.rounds
        is_fleet = bench.subject == "fleet"
        peers = ["pushgateway", "ordinary"] if is_fleet and not options.no_ordinary else ["pushgateway"]
        bench.compare(rounds, peers=peers)
        if size.name in ("tiny", "L") and is_fleet:
            bench.together(rounds)
        if options.history:
            bench.with_history(rounds, audit_entries=5_000_000, deploys=1_000_000)
        options.json.write_text(json.dumps({"series": bench.series(), "figures": bench.figures.values}))


def _machine() -> dict[str, str]:
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "",
    )
    pushgateway = subprocess.run(
        ["prometheus-pushgateway", "--version"], capture_output=True, text=True, check=False
    )
    return {
        "processor": f"{os.cpu_count()} × {model}",
        "python": platform.python_version(),
        "pushgateway": (pushgateway.stdout + pushgateway.stderr).split("\n", 1)[0],
        "date": time.strftime("%Y-%m-%d"),
    }


if __name__ == "__main__":
    main()
