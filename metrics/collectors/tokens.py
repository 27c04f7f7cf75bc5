"""When the API tokens expire: an operator wants to know before Prometheus gets a 401."""

from metrics import families as f
from metrics.collectors.base import Collector, Found, Scrape
from metrics.exposition import KeptLines
from tokens import selectors


class TokensCollector(Collector):
    """One query."""

    name = "tokens"
    families = (f.TOKEN_EXPIRES,)
    queries = (selectors.TOKEN_EXPIRIES,)
    is_of_queries_alone = True

    def __init__(self) -> None:
        self._lines = KeptLines(f.TOKEN_EXPIRES)

    def collect(self, scrape: Scrape) -> Found:
        """Tokens that never expire have no sample."""
        samples = (((name,), expires) for name, expires in selectors.token_expiries())
        return {f.TOKEN_EXPIRES: self._lines.fragments(samples)}
