"""Durable counts of what happens often: gathered in memory, written to the database once a second.

An event pays for one dictionary operation; the database gets one statement a second from each process, whatever the
load. What is shown is what the database has, so that every replica shows the same. A process that is killed loses the
last second.
"""

from collections import Counter
from threading import Lock

from django.apps import apps
from django.db import connection, transaction

Key = tuple[str | int, ...]


class Tally:
    """Increments that are not in the database yet: of the column `count` of a model (`"app.Model"`), by its other `columns`."""

    def __init__(self, model: str, *columns: str) -> None:
        self._model = model
        self._columns = columns
        self._counts: Counter[Key] = Counter()
        self._lock = Lock()

    def add(self, *key: str | int, count: int = 1) -> None:
        """One more, or several; `key` are the values of the columns."""
        with self._lock:
            self._counts[key] += count

    def pending(self, *key: str | int) -> int:
        """How many of these are not written yet."""
        with self._lock:
            return self._counts[key]

    def flush(self) -> None:
        """Write the increments; if the database refuses, they are kept for the next time."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            self._write(counts)
        except BaseException:
            with self._lock:
                self._counts.update(counts)
            raise

    def _write(self, counts: Counter[Key]) -> None:
        table = connection.ops.quote_name(apps.get_model(self._model)._meta.db_table)
        # Sorted, so that two replicas that write the same rows wait for each other instead of locking up.
        rows = [(*key, count) for key, count in sorted(counts.items())]
        key, places = ", ".join(self._columns), ", ".join(["%s"] * (len(self._columns) + 1))
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {table} ({key}, count) VALUES {', '.join([f'({places})'] * len(rows))}"  # noqa: S608 (constants)
                f" ON CONFLICT ({key}) DO UPDATE SET count = {table}.count + excluded.count",
                [value for row in rows for value in row],
            )


# What happened, and how it ended.
HEARTBEATS = "heartbeats"
SCRAPES = "scrapes"
events = Tally("metrics.EventCount", "event", "result")
