"""One rendering: every collector's families, timed, in the order of the page, from one snapshot."""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

from django.db import Error

from dockmesh.core import clock
from dockmesh.core.compiled import CompiledQuery, read_together
from dockmesh.core.postgresql.base import waits_limited_to
from metrics import families as f
from metrics.collectors import (
    alerts,
    api,
    audit,
    backups,
    build,
    deploys,
    fleet,
    objects,
    runtime,
    server,
    tasks,
    tokens,
    usage,
)
from metrics.collectors.base import Collector, Found, Named, Scrape
from metrics.exposition import Family, Fragment, Page, Section, label_text, number
from metrics.groups import Group, Groups
from metrics.singleflight import SingleFlight
from metrics.snapshot import Snapshot, snapshot

logger = logging.getLogger(__name__)

# A database that doesn't answer in this time counts as away.
_DATABASE_SECONDS = 5.0
# How long a page stays for scrapes that arrived before it was begun and still wait for a thread.
_SHARED_SECONDS = 1.0


class DatabaseAway(Exception):
    """The database could not be asked."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a collector fared."""

    name: str
    groups: Groups
    is_success: bool
    seconds: float


class Rendering:
    """What one rendering found; a page of any of its groups can be had of it."""

    def __init__(self, *, is_database_up: bool) -> None:
        self.process: Sequence[Section] = ()
        self._is_database_up = is_database_up
        self._found: dict[Family, Sequence[Fragment]] = {}
        self._outcomes: list[_Outcome] = []
        self._pages: dict[Groups, Page] = {}
        self._lock = Lock()

    def add(self, collector: Named, start: float, found: Found | None) -> None:
        """What a collector found that began at `start` (by `time.perf_counter`); None if it failed."""
        seconds = time.perf_counter() - start
        self._outcomes.append(_Outcome(collector.name, collector.groups, found is not None, seconds))
        self._found |= found or {}

    def page(self, groups: Groups) -> Page:
        """The page of these groups, the same for all who share it, as if nothing else had been rendered."""
        with self._lock:
            if groups not in self._pages:
                self._pages[groups] = Page(self._sections(groups))
            return self._pages[groups]

    def seconds(self, group: Group) -> float:
        """How long the collectors took that have families in this group."""
        return sum(outcome.seconds for outcome in self._outcomes if group in outcome.groups)

    def _sections(self, groups: Groups) -> list[Section]:
        found = {**self._found, **self._about(groups)}
        sections = [
            Section(family, found[family])
            for group, families in f.GROUPS.items()
            if group in groups
            for family in families
            if family in found
        ]
        return [*sections, *self.process] if Group.SERVER in groups else sections

    def _about(self, groups: Groups) -> Found:
        outcomes = [outcome for outcome in self._outcomes if not groups.isdisjoint(outcome.groups)]
        names = tuple([outcome.name for outcome in outcomes])
        values: dict[Family, list[float]] = {
            f.COLLECTOR_SUCCESS: [outcome.is_success for outcome in outcomes],
            f.COLLECTOR_DURATION: [outcome.seconds for outcome in outcomes],
        }
        lines = {
            family: _of_each(family, names) % tuple(map(number, each)) for family, each in values.items()
        }
        lines[f.DB_UP] = f"{f.DB_UP.name} {int(self._is_database_up)}\n"
        return {family: [Fragment.of(text)] for family, text in lines.items()}


@lru_cache(maxsize=256)
def _of_each(family: Family, collectors: tuple[str, ...]) -> str:
    """A line for each collector, with a place for its value."""
    return "".join(f"{family.name}{label_text(family.labels, [name])} %s\n" for name in collectors)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a collector found, and what its queries gave then."""

    texts: Sequence[str | None]
    found: Found


class Renderer:
    """Holds the kept text of this process; `page` may be called by any number of threads."""

    def __init__(self) -> None:
        self._each_by_name = objects.ObjectsCollector()
        self._ahead = objects.ObjectsAhead(self._each_by_name)
        self.collectors: Sequence[Collector] = (
            fleet.FleetCollector(),
            deploys.DeploysCollector(),
            deploys.LastDeploysCollector(),
            deploys.OpenDeploysCollector(),
            backups.BackupsCollector(),
            api.ApiCollector(),
            audit.AuditCollector(),
            alerts.AlertsCollector(),
            alerts.ChannelsCollector(),
            build.BuildCollector(),
            tokens.TokensCollector(),
            tasks.TasksCollector(),
            self._each_by_name,
            usage.UsageCollector(),
            server.ServerCollector(),
        )
        self._runtime = runtime.RuntimeCollector()
        self._kept: dict[Collector, _Kept] = {}
        self._single_flight = SingleFlight(self._render)

    def page(
        self, groups: Groups, names: frozenset[str] | None = None, *, since: float, timeout_seconds: float
    ) -> Page:
        """The families of these groups, as they were committed at some moment after `since` (by `time.monotonic`).

        Of families that have none of these names there may be none. Raises `DatabaseAway`, or `metrics.singleflight.TimedOut`.
        """
        return self.rendering(groups, names, since=since, timeout_seconds=timeout_seconds).page(groups)

    def rendering(
        self, groups: Groups, names: frozenset[str] | None = None, *, since: float, timeout_seconds: float
    ) -> Rendering:
        """The same with what it took."""
        wanted = self.wanted(groups, names)
        return self._single_flight.result(wanted, since=since, timeout_seconds=timeout_seconds)

    def make_ahead(self, *, timeout_seconds: float) -> bool:
        """Make some of the text that the first scrape would have to make; whether there was any.

        Raises as `page` does.
        """
        before = self._ahead.hosts_made
        wanted = frozenset({self._ahead.name})
        self._single_flight.result(wanted, since=time.monotonic(), timeout_seconds=timeout_seconds)
        return self._ahead.hosts_made > before

    def wanted(self, groups: Groups, names: frozenset[str] | None = None) -> frozenset[str]:
        """The collectors that have any of these families, by their names."""
        if names is not None and any(not names.isdisjoint(family.names) for family in f.ABOUT_COLLECTORS):
            names = None  # what tells of the collectors tells of all
        return frozenset(
            collector.name
            for collector in (*self.collectors, self._runtime)
            if not groups.isdisjoint(collector.groups) and (names is None or collector.has_any(names))
        )

    def coming(self) -> AbstractContextManager[None]:
        """Around what a scrape does before it asks for its page, and the asking: others' pages wait a moment for it."""
        return self._single_flight.coming()

    def rest(self) -> None:
        """Give back the memory of bodies that nobody waits for and of text that nobody asks for; called now and then."""
        self._single_flight.forget(older_than_seconds=_SHARED_SECONDS)
        self._each_by_name.forget_unwanted()

    def page_without_database(self, groups: Groups) -> Page:
        """The process's own metrics, and that the database is away."""
        collectors = [each for each in self.collectors if not each.reads_database]
        return self._collect(self.wanted(groups), collectors, None).page(groups)

    def _render(self, wanted: frozenset[str]) -> Rendering:
        collectors = [each for each in (*self.collectors, self._ahead) if each.name in wanted]
        queries = {query: None for each in collectors for query in each.queries}
        try:
            with waits_limited_to(_DATABASE_SECONDS), snapshot() as reading, _read(queries, reading):
                return self._collect(wanted, collectors, reading)
        except Error as error:
            logger.error("The database could not be read for /metrics: %s", error)
            raise DatabaseAway from error

    def _collect(
        self, wanted: frozenset[str], collectors: Iterable[Collector], reading: Snapshot | None
    ) -> Rendering:
        scrape = Scrape(clock.now())
        rendering = Rendering(is_database_up=reading is not None)
        for collector in collectors:
            if collector.name in wanted:
                start = time.perf_counter()
                found = self._attempt(collector, scrape, reading)
                rendering.add(collector, start, found)
        if self._runtime.name in wanted:
            start = time.perf_counter()
            sections = self._runtime.sections()
            rendering.process = sections or ()
            rendering.add(self._runtime, start, None if sections is None else {})
        return rendering

    def _attempt(self, collector: Collector, scrape: Scrape, reading: Snapshot | None) -> Found | None:
        """What the collector finds, or None if it fails; raises `Error` if the database itself is away."""
        texts = [query.text for query in collector.queries]
        kept = self._kept.get(collector)
        if kept is not None and kept.texts == texts:
            return kept.found
        try:
            found = collector.collect(scrape)
        except Exception as error:
            logger.exception(
                "Collector %s failed; its families are missing from this scrape.", collector.name
            )
            if isinstance(error, Error) and reading is not None:
                reading.recover()  # raises where the connection itself is gone
            return None
        if collector.is_of_queries_alone and None not in texts:
            self._kept[collector] = _Kept(texts, found)
        return found


@contextmanager
def _read(queries: Iterable[CompiledQuery], reading: Snapshot) -> Iterator[None]:
    """Within the block these queries need not be made; where one of them fails, each is made by who needs it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(read_together(list(queries)))
        except Error as error:
            logger.warning("What /metrics reads could not be read together: %s", error)
            reading.recover()
        yield


renderer = Renderer()
