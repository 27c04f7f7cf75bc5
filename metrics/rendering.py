"""One rendering: every collector's families, timed, in the order of the page, from one snapshot."""

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

from django.db import Error

from dockmesh.core import clock
from dockmesh.core.postgresql.base import waits_limited_to
from metrics import families as f
from metrics.collectors import alerts, api, audit, backups, build, deploys, fleet, runtime, tasks, tokens
from metrics.collectors.base import Collector, Found, Scrape
from metrics.exposition import Family, Page, Piece, Section, sample_lines
from metrics.flight import Flight
from metrics.snapshot import Snapshot, snapshot

logger = logging.getLogger(__name__)

# A database that doesn't answer in this time counts as away.
_DATABASE_SECONDS = 5.0
# How long a page stays for scrapes that arrived before it was begun and still wait for a thread.
_SHARED_SECONDS = 1.0


class DatabaseAway(Exception):
    """The database could not be asked."""


class Renderer:
    """Holds the kept text of this process; `page` may be called by any number of threads."""

    def __init__(self) -> None:
        self.collectors: Sequence[Collector] = (
            fleet.FleetCollector(),
            deploys.DeploysCollector(),
            backups.BackupsCollector(),
            api.ApiCollector(),
            audit.AuditCollector(),
            alerts.AlertsCollector(),
            build.BuildCollector(),
            tokens.TokensCollector(),
            tasks.TasksCollector(),
        )
        self._runtime = runtime.RuntimeCollector()
        self._flight = Flight(self._render)

    def page(self, *, since: float, timeout_seconds: float) -> Page:
        """Everything, as it was committed at some moment after `since` (by `time.monotonic`).

        Raises `DatabaseAway`, or `metrics.flight.TimedOut`.
        """
        return self._flight.result(since=since, timeout_seconds=timeout_seconds)

    def coming(self) -> AbstractContextManager[None]:
        """Around what a scrape does before it asks for its page, and the asking: others' pages wait a moment for it."""
        return self._flight.coming()

    def rest(self) -> None:
        """Give back the memory of bodies that nobody waits for; called now and then."""
        self._flight.forget(older_than_seconds=_SHARED_SECONDS)

    def page_without_database(self) -> Page:
        """The process's own metrics, and that the database is away."""
        return self._collect([c for c in self.collectors if not c.reads_database], None)

    def _render(self) -> Page:
        try:
            with waits_limited_to(_DATABASE_SECONDS), snapshot() as reading:
                return self._collect(self.collectors, reading)
        except Error as error:
            logger.error("The database could not be read for /metrics: %s", error)
            raise DatabaseAway from error

    def _collect(self, collectors: Sequence[Collector], reading: Snapshot | None) -> Page:
        scrape = Scrape(clock.now())
        found: dict[Family, Sequence[Piece]] = {}
        outcomes: list[tuple[str, bool, float]] = []
        for collector in collectors:
            start = time.perf_counter()
            pieces = _attempt(collector, scrape, reading)
            found |= pieces or {}
            outcomes.append((collector.name, pieces is not None, time.perf_counter() - start))
        start = time.perf_counter()
        runtime_sections, is_success = self._runtime.sections()
        outcomes.append((self._runtime.name, is_success, time.perf_counter() - start))
        found |= _about(outcomes, is_database_up=reading is not None)
        sections = [Section(at, found[at]) for at in (*f.PAGE, *f.COMPANIONS) if at in found]
        return Page([*sections, *runtime_sections])


def _attempt(collector: Collector, scrape: Scrape, reading: Snapshot | None) -> Found | None:
    """What the collector finds, or None if it fails; raises `Error` if the database itself is away."""
    try:
        return collector.collect(scrape)
    except Exception as error:
        logger.exception("Collector %s failed; its families are missing from this scrape.", collector.name)
        if isinstance(error, Error) and reading is not None:
            reading.recover()  # raises where the connection itself is gone
        return None


def _about(outcomes: Sequence[tuple[str, bool, float]], *, is_database_up: bool) -> Found:
    success = [((name,), is_success) for name, is_success, _ in outcomes]
    duration = [((name,), seconds) for name, _, seconds in outcomes]
    return {
        f.DB_UP: [Piece.of(sample_lines(f.DB_UP, [((), is_database_up)]))],
        f.COLLECTOR_SUCCESS: [Piece.of(sample_lines(f.COLLECTOR_SUCCESS, success))],
        f.COLLECTOR_DURATION: [Piece.of(sample_lines(f.COLLECTOR_DURATION, duration))],
    }


renderer = Renderer()
