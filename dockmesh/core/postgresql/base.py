"""Django's PostgreSQL backend, but no wait for the database lasts for ever.

A database that is frozen, or behind a network that drops packets, neither answers nor refuses. Without a
limit every thread of the server would end up waiting for it. So:

- each wait for an answer ends after the thread's limit (`waits_limited_to`) with an `OperationalError`,
  and the connection is dropped, since nobody knows what it would answer next;
- after such a wait, or a failed connect, the next second's attempts to connect fail at once: requests
  are answered with 503 rather than queued behind each other.

Without `limit_waits`, as in management commands and migrations, waits are not limited.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import OperationalError
from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from psycopg.errors import ReadOnlySqlTransaction, _WaitTimeout

REQUEST_SECONDS = 5.0  # what a server passes to `limit_waits`: the longest wait for one answer
JOB_SECONDS = 60.0  # the same for periodic jobs, which may delete many rows in one statement
REST_SECONDS = 1.0  # between attempts to reach a database that did not answer
HEALTH_CHECK_SECONDS = 1.0
LOCK_SHARE = 0.8  # of a wait: that long for a lock


class _Limits(threading.local):
    seconds: float | None = None


_limits = _Limits()
_process_limit: float | None = None
_resting_until = 0.0


def limit_waits(seconds: float | None) -> None:
    """Let every wait of this process for an answer of the database last `seconds` at most."""
    global _process_limit
    _process_limit = seconds


@contextmanager
def waits_limited_to(seconds: float) -> Iterator[None]:
    """The same for the present thread, within the block."""
    before = _limits.seconds
    _limits.seconds = seconds
    try:
        yield
    finally:
        _limits.seconds = before


def _rest() -> None:
    global _resting_until
    _resting_until = time.monotonic() + REST_SECONDS


class LimitedConnection(psycopg.Connection[Any]):
    """A connection whose waits are limited."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Run one exchange with the server; `psycopg.OperationalError` once the limit has passed."""
        if timeout is None:
            timeout = _limits.seconds or _process_limit
        try:
            return super().wait(gen, interval=interval, timeout=timeout)
        except _WaitTimeout:
            self.pgconn.finish()
            _rest()
            raise psycopg.OperationalError(f"the database did not answer within {timeout:g} s") from None
        except ReadOnlySqlTransaction as error:
            # A standby, or a primary that was made read-only: for a write it is as good as away.
            raise psycopg.OperationalError(f"the database is read-only: {error}") from error


class DatabaseWrapper(base.DatabaseWrapper):
    """Connects with `LimitedConnection`."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """A new connection; fails at once while the database is left to rest."""
        is_limited = _process_limit is not None or _limits.seconds is not None
        if is_limited and time.monotonic() < _resting_until:
            raise psycopg.OperationalError("the database did not answer a moment ago")
        self.isolation_level = IsolationLevel.READ_COMMITTED
        try:
            connection = LimitedConnection.connect(**conn_params)
        except psycopg.OperationalError:
            _rest()
            raise
        limit = _limits.seconds or _process_limit
        if limit is not None:
            self._limit_lock_waits(connection, limit * LOCK_SHARE)
        return connection

    def _limit_lock_waits(self, connection: LimitedConnection, seconds: float) -> None:
        """Who waits for a lock is told so by the database, before the wait looks like one that is away."""
        was_autocommit, connection.autocommit = connection.autocommit, True
        connection.execute(f"SET lock_timeout = {int(seconds * 1000)}")
        connection.autocommit = was_autocommit

    def is_usable(self) -> bool:
        """Whether the connection answers; asked before the first query of a request."""
        with waits_limited_to(HEALTH_CHECK_SECONDS):
            return bool(super().is_usable())


__all__ = ["DatabaseWrapper", "LimitedConnection", "OperationalError", "limit_waits", "waits_limited_to"]
