"""What hosts and their containers use."""

from dockmesh.fleet import listening
from dockmesh.fleet.selectors.usage import host_usage
from metrics.collectors.base import Collector, Found, Scrape
from metrics.collectors.usage_text import FAMILIES, usage_fragments


class UsageCollector(Collector):
    """One query, which reads the row of each host that is online."""

    name = "usage"
    families = FAMILIES
    queries = (listening.NEWEST_SPANS,)

    def collect(self, scrape: Scrape) -> Found:
        """The containers' lines as the heartbeats left them, and those of the hosts, which are few."""
        return usage_fragments(host_usage(scrape.now))
