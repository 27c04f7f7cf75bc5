"""What a collector is."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from dockmesh.fleet import selectors
from metrics.exposition import Family, Fragment
from metrics.groups import Groups

Found = Mapping[Family, Sequence[Fragment]]


@dataclass(frozen=True)
class Scrape:
    """The moment that a rendering shows, and the groups that it is for."""

    now: datetime.datetime
    groups: Groups

    @cached_property
    def heartbeats(self) -> selectors.HeartbeatColumns:
        """The heartbeats of all hosts, read once for all collectors that ask."""
        return selectors.heartbeat_columns(self.now)


class Named(Protocol):
    """What the page tells of a collector."""

    name: str
    groups: Groups
    """Those of its families; it runs if any of them is asked for."""


class Collector(Named, Protocol):
    """Reads through selectors and gives the samples of its families. Called by one thread at a time."""

    reads_database: bool

    def collect(self, scrape: Scrape) -> Found:
        """The samples of each of its families, or of those in the scrape's groups.

        Any exception takes all of them off the page.
        """
