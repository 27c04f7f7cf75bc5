"""How often each alert rule fired."""

from dockmesh.alerts import selectors
from metrics import families as f
from metrics.collectors.base import Found, Scrape
from metrics.exposition import Piece, sample_lines
from metrics.groups import Group


class AlertsCollector:
    """One query."""

    name = "alerts"
    reads_database = True
    groups = frozenset({Group.FLEET})

    def collect(self, scrape: Scrape) -> Found:
        """Every rule, also at 0."""
        samples = [((severity, rule), count) for severity, rule, count in selectors.fired_counts()]
        return {f.ALERTS_FIRED: [Piece.of(sample_lines(f.ALERTS_FIRED, samples))]}
