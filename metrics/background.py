"""Once a second, off the way of every request: write the counts that gathered in memory."""

import itertools
import logging
import threading
import time
from collections.abc import Callable

from django.conf import settings
from django.db import Error, connection

from dockmesh.core import tally
from metrics import multiprocess, rendering, requests, schema, scrapelog
from metrics.groups import ALL, Group, Groups

logger = logging.getLogger(__name__)

_EVERY_SECONDS = 1.0
_MIGRATIONS_EVERY_RUNS = 60
_WARM_UP_SECONDS = 60.0


def start() -> None:
    """Begin in this process."""
    if not settings.DOCKMESH_METRICS_AUTH:
        logger.warning("/metrics is public: DOCKMESH_METRICS_AUTH is off.")
    threading.Thread(target=_run, name="metrics-background", daemon=True).start()


def flush() -> None:
    """Write now; called at the end too. Counts that an unreachable database did not take wait for it; the record of
    scrapes does not."""
    multiprocess.write_own()
    for write, what_becomes in (
        (requests.counter.flush, "Counts of requests could not be written, and are tried again"),
        (tally.events.flush, "Counts of heartbeats and scrapes could not be written, and are tried again"),
        (scrapelog.log.flush, "Who scraped could not be written down, and is dropped"),
    ):
        try:
            write()
        except Error as error:
            logger.warning("%s: %s", what_becomes, error)
            connection.close()


def _run() -> None:
    _attempt("making the text of /metrics ahead", _warm_up)
    for run in itertools.count():
        if run % _MIGRATIONS_EVERY_RUNS == 0:
            _attempt("counting the migrations", schema.count_migrations)
        time.sleep(_EVERY_SECONDS)
        _attempt("writing the counts", flush)
        _attempt("giving memory back", rendering.renderer.rest)


def _attempt(what: str, run: Callable[[], None]) -> None:
    """Whatever goes wrong, the thread goes on: the next time comes soon."""
    try:
        run()
    except (Error, rendering.DatabaseAway) as error:
        logger.warning("The database did not let us go on with %s: %s", what, error)
        connection.close()
    except Exception:
        logger.exception("Something went wrong in %s.", what)


def _warm_up() -> None:
    """Make the text once before anybody asks, so that the first scrape finds it kept.

    That of each thing by its name takes a second at a thousand hosts: it is made some hosts at a time, and a scrape that
    comes meanwhile waits for those alone.
    """
    _make(ALL - {Group.OBJECTS})
    while rendering.renderer.make_ahead(timeout_seconds=_WARM_UP_SECONDS):
        pass
    _make(ALL)


def _make(groups: Groups) -> None:
    page = rendering.renderer.page(groups, since=time.monotonic(), timeout_seconds=_WARM_UP_SECONDS)
    page.body(openmetrics=True, gzip=True)
