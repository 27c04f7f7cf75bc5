"""Requests to the HTTP API, as the durable counts have them."""

from dockmesh.core.compiled import CompiledQuery
from metrics import families as f
from metrics import routes
from metrics.collectors.base import Found, Scrape
from metrics.exposition import Piece, sample_lines
from metrics.groups import Group
from metrics.models import ApiRequestCount
from metrics.requests import Key


def _by_path(sample: tuple[Key, int]) -> tuple[str, str, int]:
    (method, path, status), _ = sample
    return path, method, status


_counts = CompiledQuery(lambda: ApiRequestCount.objects.values_list("method", "path", "status", "count"))


class ApiCollector:
    """One query; `metrics.requests` writes the counts once a second."""

    name = "api"
    reads_database = True
    groups = frozenset({Group.FLEET})

    def collect(self, scrape: Scrape) -> Found:
        """From the database, so that every replica shows the same; what never happened on a known route is 0."""
        counts = dict.fromkeys(routes.born(), 0)
        counts |= {(method, path, status): count for method, path, status, count in _counts.rows()}
        samples = [
            ((method, path, str(status)), count)
            for (method, path, status), count in sorted(counts.items(), key=_by_path)
        ]
        return {f.API_REQUESTS: [Piece.of(sample_lines(f.API_REQUESTS, samples))]}
