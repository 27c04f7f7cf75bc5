"""Requests to the HTTP API, as the durable counts have them."""

from dockmesh.core.compiled import CompiledQuery
from metrics import families as f
from metrics.collectors.base import Found, Scrape
from metrics.exposition import Piece, sample_lines
from metrics.models import ApiRequestCount

_counts = CompiledQuery(
    lambda: ApiRequestCount.objects.order_by("path", "method", "status").values_list(
        "method", "path", "status", "count"
    )
)


class ApiCollector:
    """One query; `metrics.requests` writes the counts once a second."""

    name = "api"
    reads_database = True

    def collect(self, scrape: Scrape) -> Found:
        """From the database only, so that every replica shows the same."""
        samples = [((method, path, str(status)), count) for method, path, status, count in _counts.rows()]
        return {f.API_REQUESTS: [Piece.of(sample_lines(f.API_REQUESTS, samples))]}
