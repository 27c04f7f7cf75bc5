"""Once a second, off the way of every request: write the counts that gathered in memory."""

import itertools
import logging
import os
import threading
import time

from django.conf import settings
from django.db import Error, connection

from metrics import multiprocess, rendering, requests, schema, scrapelog
from metrics.flight import TimedOut

logger = logging.getLogger(__name__)

_EVERY_SECONDS = 1.0
_MIGRATIONS_EVERY_RUNS = 60
_WARM_UP_SECONDS = 60.0


def start() -> None:
    """Begin in this process, and in every process that a WSGI server forks from it."""
    if not settings.DOCKMESH_METRICS_AUTH:
        logger.warning("/metrics is public: DOCKMESH_METRICS_AUTH is off.")
    _start_thread()
    os.register_at_fork(after_in_child=_start_thread)


def flush() -> None:
    """Write now; called at the end too. What an unreachable database did not take waits for it."""
    multiprocess.write_own()
    for write in (requests.counter.flush, scrapelog.log.flush):
        try:
            write()
        except Error as error:
            logger.warning("Counts could not be written, and are tried again: %s", error)
            connection.close()


def _start_thread() -> None:
    threading.Thread(target=_run, name="metrics-background", daemon=True).start()


def _run() -> None:
    _warm_up()
    for run in itertools.count():
        if run % _MIGRATIONS_EVERY_RUNS == 0:
            _count_migrations()
        time.sleep(_EVERY_SECONDS)
        try:
            flush()
            rendering.renderer.rest()
        except Exception:
            logger.exception("Writing the counts failed.")


def _count_migrations() -> None:
    try:
        schema.count_migrations()
    except Error as error:
        logger.warning("The migrations could not be counted, and are in a minute: %s", error)
        connection.close()


def _warm_up() -> None:
    """Make the text once before anybody asks, so that the first scrape finds it kept."""
    try:
        page = rendering.renderer.page(since=time.monotonic(), timeout_seconds=_WARM_UP_SECONDS)
        page.body(openmetrics=True, gzip=True)
    except (rendering.DatabaseAway, TimedOut):
        logger.warning("The text of /metrics could not be made ahead; the first scrape makes it.")
