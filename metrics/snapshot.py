"""One consistent read: everything inside sees what was committed when it began."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import Error, connection

_BEGIN = {
    # Reads only, so that it never waits for writers and never makes them wait.
    "postgresql": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    # Deferred: Django's own transactions are immediate here and would take the write lock.
    "sqlite": "BEGIN DEFERRED",
}


class Snapshot:
    """A read transaction by hand, because Django's would be a writer's."""

    def __init__(self) -> None:
        self.is_nested = connection.in_atomic_block
        self._cursor = connection.cursor()
        self._begin()

    def recover(self) -> None:
        """After a failed query: PostgreSQL refuses all others in the same transaction, so begin anew."""
        self.end()
        self._begin()

    def end(self) -> None:
        """Give the snapshot back."""
        if not self.is_nested:
            self._cursor.execute("ROLLBACK")

    def _begin(self) -> None:
        if not self.is_nested:
            self._cursor.execute(_BEGIN[connection.vendor])


@contextmanager
def snapshot() -> Iterator[Snapshot]:
    """A snapshot of the database for this thread; raises `django.db.Error` where it can't be reached."""
    reading = Snapshot()
    try:
        yield reading
    finally:
        try:
            reading.end()
        except Error:
            # The connection is gone or in an unknown state: the next request makes a new one.
            connection.close()
