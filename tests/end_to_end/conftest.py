"""A whole dockmesh for each test: the server on each database, and what reads it."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.server import DockmeshServer

# Short times, so that a host goes offline within the test's patience.
SHORT = {"DOCKMESH_HEARTBEAT_INTERVAL": "2", "DOCKMESH_HOST_OFFLINE_AFTER": "6"}

Scrape = Callable[[], dict[str, float]]


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Empty for SQLite, else the address of an empty PostgreSQL database."""
    if request.param == "sqlite":
        return ""
    server = request.getfixturevalue("postgres_server")
    url: str = server.create_database()
    return url


@pytest.fixture
def dockmesh(tmp_path: Path, database_url: str) -> Iterator[DockmeshServer]:
    """A running server."""
    with DockmeshServer(tmp_path / "data", SHORT, database_url=database_url) as server:
        yield server


@pytest.fixture
def scrape(dockmesh: DockmeshServer) -> Scrape:
    """Reads /metrics with a scraper's token: {series: value}."""
    token = dockmesh.createtoken("test-scraper", permissions=["metrics.read"])
    return lambda: read_metrics(dockmesh.url, token)


def read_metrics(url: str, token: str = "") -> dict[str, float]:
    """The exposition as {series: value}."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{url}/metrics", headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read().decode()
    found = {}
    for line in text.splitlines():
        if match := re.fullmatch(r"([^#].*) (\S+)", line):
            found[match[1]] = float(match[2])
    return found
