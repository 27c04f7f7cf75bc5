"""Durable counts of what happens often: gathered in memory, written to the database once a second by whoever keeps them.

An event pays for one dictionary operation. A process that is killed loses the last second.
"""

from collections.abc import Callable, Hashable, Mapping
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Tally(Generic[Key]):
    """Increments that are not in the database yet."""

    def __init__(self) -> None:
        self._counts: dict[Key, int] = {}
        self._lock = Lock()

    def add(self, key: Key, count: int = 1) -> None:
        """One more, or several."""
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + count

    def pending(self, key: Key) -> int:
        """How many of these are not written yet."""
        with self._lock:
            return self._counts.get(key, 0)

    def flush(self, write: Callable[[Mapping[Key, int]], None]) -> None:
        """Have the increments written; if that fails, they are kept for the next time."""
        with self._lock:
            counts, self._counts = self._counts, {}
        if not counts:
            return
        try:
            write(counts)
        except BaseException:
            with self._lock:
                for key, count in counts.items():
                    self._counts[key] = self._counts.get(key, 0) + count
            raise


# What happened, and how it ended; `metrics.events` writes them.
HEARTBEATS = "heartbeats"
SCRAPES = "scrapes"
events: Tally[tuple[str, str]] = Tally()
