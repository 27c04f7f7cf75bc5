"""The benchmark in its short form: that it works and that all peers serve the same, never how fast."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import require

ROOT = Path(__file__).resolve().parents[2]


def measure(report, *arguments):
    """The figures of a tiny fleet, and what was printed."""
    command = [sys.executable, "-m", "tests.bench", "--sizes", "tiny", "--json", str(report), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(report.read_text())["sizes"]["tiny"]["figures"], done.stdout


@pytest.mark.integration
def test_the_benchmark_measures_everybody_on_the_same_series(tmp_path):
    require("prometheus-pushgateway")
    figures, printed = measure(tmp_path / "bench.json", "--rounds", "1")
    assert set(figures["gzip"]) == {"dockmesh", "pushgateway", "ordinary"}
    assert set(figures["plain"]) == {"dockmesh", "pushgateway"}
    assert set(figures["processor time"]) == {"one scraper", "20 scrapers"}
    assert "| tiny | gzip |" in printed


@pytest.mark.integration
def test_the_benchmark_measures_each_thing_by_its_name(tmp_path):
    require("prometheus-pushgateway")
    figures, _ = measure(tmp_path / "bench.json", "--rounds", "1", "--objects")
    assert set(figures["gzip"]) == {"dockmesh", "pushgateway"}


@pytest.mark.integration
def test_the_benchmark_measures_what_each_container_uses(tmp_path):
    require("prometheus-pushgateway")
    figures, _ = measure(tmp_path / "bench.json", "--rounds", "1", "--usage")
    assert set(figures["gzip"]) == {"dockmesh", "pushgateway"}


@pytest.mark.integration
def test_the_benchmark_measures_heartbeats(tmp_path):
    figures, _ = measure(tmp_path / "bench.json", "--ingest", "--minutes", "0.05")
    assert {
        "unchanged heartbeats",
        "changed heartbeats",
        "heartbeats with usage",
        "rhythm: scrapes, ms",
    } <= set(figures)


@pytest.mark.integration
def test_the_benchmark_measures_agents_that_wait():
    command = [sys.executable, "-m", "tests.bench.waiting", "--agents", "20", "--seconds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["agents"] == 20
