"""The benchmark in its short form: that it works and that all peers serve the same, never how fast."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import require

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.integration
def test_the_benchmark_measures_everybody_on_the_same_series(tmp_path):
    require("prometheus-pushgateway")
    report = tmp_path / "bench.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--sizes", "tiny", "--rounds", "1", "--json", str(report)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(report.read_text())["sizes"]["tiny"]["figures"]
    assert set(figures["gzip"]) == {"dockmesh", "pushgateway", "ordinary"}
    assert set(figures["plain"]) == {"dockmesh", "pushgateway"}
    assert set(figures["processor time"]) == {"one scraper", "20 scrapers"}
    assert "| tiny | gzip |" in done.stdout


@pytest.mark.integration
def test_the_benchmark_measures_heartbeats(tmp_path):
    report = tmp_path / "bench.json"
    arguments = ["--sizes", "tiny", "--ingest", "--minutes", "0.05", "--json", str(report)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(report.read_text())["sizes"]["tiny"]["figures"]
    assert {"unchanged heartbeats", "changed heartbeats", "rhythm: scrapes, ms"} <= set(figures)
