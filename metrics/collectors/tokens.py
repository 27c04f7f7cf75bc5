"""When the API tokens expire: an operator wants to know before Prometheus gets a 401."""

from metrics import families as f
from metrics.collectors.base import Found, Scrape
from metrics.exposition import Piece, sample_lines
from metrics.groups import Group
from tokens import selectors


class TokensCollector:
    """One query."""

    name = "tokens"
    reads_database = True
    groups = frozenset({Group.FLEET})

    def collect(self, scrape: Scrape) -> Found:
        """Tokens that never expire have no sample."""
        samples = [((name,), expires) for name, expires in selectors.token_expiries()]
        return {f.TOKEN_EXPIRES: [Piece.of(sample_lines(f.TOKEN_EXPIRES, samples))]}
