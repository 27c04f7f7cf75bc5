"""Entries ever written to the audit log, by action."""

from dockmesh.audit import selectors
from metrics import families as f
from metrics.collectors.base import Collector, Found, Scrape
from metrics.exposition import KeptLines


class AuditCollector(Collector):
    """One query for the durable counts: pruning the log doesn't lower them."""

    name = "audit"
    families = (f.AUDIT_ENTRIES,)
    queries = (selectors.ACTION_COUNTS,)
    is_of_queries_alone = True

    def __init__(self) -> None:
        self._lines = KeptLines(f.AUDIT_ENTRIES)

    def collect(self, scrape: Scrape) -> Found:
        """Every action that there is, also at 0."""
        samples = (((action,), count) for action, count in selectors.action_counts())
        return {f.AUDIT_ENTRIES: self._lines.fragments(samples)}
