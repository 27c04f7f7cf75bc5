"""Requests to the HTTP API, as the durable counts have them."""

from dockmesh.core.compiled import CompiledQuery
from metrics import families as f
from metrics import routes
from metrics.collectors.base import Collector, Found, Scrape
from metrics.exposition import KeptLines
from metrics.models import ApiRequestCount
from metrics.requests import Key


def _by_path(key: Key) -> tuple[str, str, int]:
    method, path, status = key
    return path, method, status


COUNTS = CompiledQuery(lambda: ApiRequestCount.objects.values_list("method", "path", "status", "count"))


class ApiCollector(Collector):
    """One query; `metrics.requests` writes the counts once a second."""

    name = "api"
    families = (f.API_REQUESTS,)
    queries = (COUNTS,)
    is_of_queries_alone = True

    def __init__(self) -> None:
        self._lines = KeptLines(f.API_REQUESTS)
        self._counted: set[Key] = set()
        self._series: list[tuple[Key, tuple[str, str, str]]] = []

    def collect(self, scrape: Scrape) -> Found:
        """From the database, so that every replica shows the same; what never happened on a known route is 0."""
        counts = {(method, path, status): count for method, path, status, count in COUNTS.rows()}
        if not self._series or counts.keys() != self._counted:
            self._counted = set(counts)
            series = sorted({*routes.born(), *counts}, key=_by_path)
            self._series = [(key, (key[0], key[1], str(key[2]))) for key in series]
        return {f.API_REQUESTS: self._lines.fragments((at, counts.get(key, 0)) for key, at in self._series)}
