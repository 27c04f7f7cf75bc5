"""One rendering: every collector's families, timed, in the order of the page, from one snapshot."""

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Lock

from django.db import Error

from dockmesh.core import clock
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
)
from metrics.collectors.base import Collector, Found, Named, Scrape
from metrics.exposition import Family, Fragment, Page, Section, sample_lines
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
        success = [((outcome.name,), outcome.is_success) for outcome in outcomes]
        duration = [((outcome.name,), outcome.seconds) for outcome in outcomes]
        return {
            f.DB_UP: [Fragment.of(sample_lines(f.DB_UP, [((), self._is_database_up)]))],
            f.COLLECTOR_SUCCESS: [Fragment.of(sample_lines(f.COLLECTOR_SUCCESS, success))],
            f.COLLECTOR_DURATION: [Fragment.of(sample_lines(f.COLLECTOR_DURATION, duration))],
        }


class Renderer:
    """Holds the kept text of this process; `page` may be called by any number of threads."""

    def __init__(self) -> None:
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
            objects.ObjectsCollector(),
            server.ServerCollector(),
        )
        self._runtime = runtime.RuntimeCollector()
        self._single_flight = SingleFlight(self._render)

    def page(self, groups: Groups, *, since: float, timeout_seconds: float) -> Page:
        """The families of these groups, as they were committed at some moment after `since` (by `time.monotonic`).

        Raises `DatabaseAway`, or `metrics.singleflight.TimedOut`.
        """
        return self.rendering(groups, since=since, timeout_seconds=timeout_seconds).page(groups)

    def rendering(self, groups: Groups, *, since: float, timeout_seconds: float) -> Rendering:
        """The same with what it took."""
        return self._single_flight.result(groups, since=since, timeout_seconds=timeout_seconds)

    def coming(self) -> AbstractContextManager[None]:
        """Around what a scrape does before it asks for its page, and the asking: others' pages wait a moment for it."""
        return self._single_flight.coming()

    def rest(self) -> None:
        """Give back the memory of bodies that nobody waits for; called now and then."""
        self._single_flight.forget(older_than_seconds=_SHARED_SECONDS)

    def page_without_database(self, groups: Groups) -> Page:
        """The process's own metrics, and that the database is away."""
        return self._collect(groups, [c for c in self.collectors if not c.reads_database], None).page(groups)

    def _render(self, parts: frozenset[str]) -> Rendering:
        groups = frozenset(map(Group, parts))
        try:
            with waits_limited_to(_DATABASE_SECONDS), snapshot() as reading:
                return self._collect(groups, self.collectors, reading)
        except Error as error:
            logger.error("The database could not be read for /metrics: %s", error)
            raise DatabaseAway from error

    def _collect(
        self, groups: Groups, collectors: Sequence[Collector], reading: Snapshot | None
    ) -> Rendering:
        scrape = Scrape(clock.now(), groups)
        rendering = Rendering(is_database_up=reading is not None)
        for collector in collectors:
            if groups.isdisjoint(collector.groups):
                continue
            start = time.perf_counter()
            fragments = _attempt(collector, scrape, reading)
            rendering.add(collector, start, fragments)
        if not groups.isdisjoint(self._runtime.groups):
            start = time.perf_counter()
            sections = self._runtime.sections()
            rendering.process = sections or ()
            rendering.add(self._runtime, start, None if sections is None else {})
        return rendering


def _attempt(collector: Collector, scrape: Scrape, reading: Snapshot | None) -> Found | None:
    """What the collector finds, or None if it fails; raises `Error` if the database itself is away."""
    try:
        return collector.collect(scrape)
    except Exception as error:
        logger.exception("Collector %s failed; its families are missing from this scrape.", collector.name)
        if isinstance(error, Error) and reading is not None:
            reading.recover()  # raises where the connection itself is gone
        return None


renderer = Renderer()
