"""What a collector is."""

import datetime
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from dockmesh.core.compiled import CompiledQuery
from dockmesh.fleet import selectors
from metrics import families as f
from metrics.exposition import Family, Fragment
from metrics.groups import Groups

Found = Mapping[Family, Sequence[Fragment]]


@dataclass(frozen=True)
class Scrape:
    """The moment that a rendering shows."""

    now: datetime.datetime

    @cached_property
    def heartbeats(self) -> selectors.HeartbeatColumns:
        """The heartbeats of all hosts, read once for all collectors that ask."""
        return selectors.heartbeat_columns(self.now)


class Named:
    """What the page tells of a collector."""

    name: str
    groups: Groups
    """Those of its families."""

    def has_any(self, names: frozenset[str]) -> bool:
        """Whether it has a family with one of these names, as `name[]=` has them."""
        raise NotImplementedError


class Collector(Named, ABC):
    """Reads through selectors and gives the samples of its families. Called by one thread at a time."""

    families: Sequence[Family]
    queries: Sequence[CompiledQuery] = ()
    """What it reads that may be read in one statement together with what others read."""
    is_of_queries_alone = False
    """Whether what it finds is the same while `queries` give the same: it is not asked again then."""
    reads_database = True

    def __init_subclass__(cls) -> None:
        cls.groups = frozenset(
            group for group in f.GROUPS if not set(cls.families).isdisjoint(f.GROUPS[group])
        )

    def has_any(self, names: frozenset[str]) -> bool:
        """Whether one of its families is called like that."""
        return any(not names.isdisjoint(family.names) for family in self.families)

    @abstractmethod
    def collect(self, scrape: Scrape) -> Found:
        """The samples of each of its families; any exception takes all of them off the page."""
