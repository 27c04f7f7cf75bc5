"""What a collector is."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from metrics.exposition import Family, Piece

Found = Mapping[Family, Sequence[Piece]]


@dataclass(frozen=True, slots=True)
class Scrape:
    """The moment that a rendering shows."""

    now: datetime.datetime


class Collector(Protocol):
    """Reads through selectors and gives the samples of its families. Called by one thread at a time."""

    name: str
    reads_database: bool

    def collect(self, scrape: Scrape) -> Found:
        """The samples of each of its families; any exception takes all of them off the page."""
