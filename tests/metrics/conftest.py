"""A fresh renderer for each test: kept text belongs to a database, and each test has its own."""

import pytest

from dockmesh.core.tally import Tally
from metrics import rendering, requests, scrapelog


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(rendering, "renderer", rendering.Renderer())
    monkeypatch.setattr(requests, "counter", Tally("metrics.ApiRequestCount", "method", "path", "status"))
    monkeypatch.setattr(scrapelog, "log", scrapelog.ScrapeLog())
