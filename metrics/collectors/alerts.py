"""Alert rules: how often each fired and what is open now; and what the channels were told."""

from dockmesh.alerts import selectors
from metrics import families as f
from metrics.collectors.base import Collector, Found, Scrape
from metrics.exposition import KeptLines


class AlertsCollector(Collector):
    """One query."""

    name = "alerts"
    families = (f.ALERTS_FIRED, f.ALERTS)
    queries = (selectors.RULES,)
    is_of_queries_alone = True

    def __init__(self) -> None:
        self._fired, self._alerts = KeptLines(f.ALERTS_FIRED), KeptLines(f.ALERTS)

    def collect(self, scrape: Scrape) -> Found:
        """Every rule, also at 0."""
        rules = selectors.rule_samples()
        fired = [((rule.severity, rule.name), rule.fired) for rule in rules]
        alerts = [
            ((rule.name, rule.severity, status), count)
            for rule in rules
            for status, count in (("pending", rule.pending), ("firing", rule.firing))
        ]
        return {
            f.ALERTS_FIRED: self._fired.fragments(fired),
            f.ALERTS: self._alerts.fragments(alerts),
        }


class ChannelsCollector(Collector):
    """One query."""

    name = "channels"
    families = (f.NOTIFICATIONS,)
    queries = (selectors.CHANNELS,)
    is_of_queries_alone = True

    def __init__(self) -> None:
        self._lines = KeptLines(f.NOTIFICATIONS)

    def collect(self, scrape: Scrape) -> Found:
        """Every channel, also at 0."""
        samples = [
            ((channel, result), count)
            for channel, *counts in selectors.channel_samples()
            for result, count in zip(("sent", "failed", "dropped"), counts, strict=True)
        ]
        return {f.NOTIFICATIONS: self._lines.fragments(samples)}
