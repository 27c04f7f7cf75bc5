"""Scrapes that arrive together share one rendering, and none sees what is older than itself.

A rendering shows what was committed when it began. A scrape that arrives while one is under way must
not take it: something may have been committed in between that its client already knows of. It waits for
the next one, together with all others that arrived meanwhile. So of any number of scrapers at once, two
renderings are made.
"""

import time
from collections.abc import Callable
from threading import Condition
from typing import Generic, TypeVar

Result = TypeVar("Result")


class TimedOut(Exception):
    """No rendering was ready in time."""


class _Batch(Generic[Result]):
    """Those who will share a rendering that has not begun yet."""

    __slots__ = ("error", "is_done", "result")

    def __init__(self) -> None:
        self.is_done = False
        self.result: Result | None = None
        self.error: BaseException | None = None


class Flight(Generic[Result]):
    """Runs `make` by one thread at a time."""

    def __init__(self, make: Callable[[], Result]) -> None:
        self._make = make
        self._changed = Condition()
        self._is_running = False
        self._gathering: _Batch[Result] | None = None

    def result(self, *, timeout_seconds: float) -> Result:
        """What `make` gives in a call that begins from now on; raises what it raises, or `TimedOut`."""
        batch = self._join(time.monotonic() + timeout_seconds)
        if not batch.is_done:
            self._lead(batch)
        if batch.error is not None:
            raise batch.error
        return batch.result  # type: ignore[return-value]

    def _join(self, deadline: float) -> _Batch[Result]:
        """The batch that this thread belongs to: done, or for this thread to carry out."""
        with self._changed:
            if self._gathering is None:
                self._gathering = _Batch()
            batch = self._gathering
            while not batch.is_done:
                if not self._is_running:
                    self._is_running = True
                    # From here on the batch's rendering is under way, and who comes now needs the next.
                    self._gathering = None
                    return batch
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimedOut
            return batch

    def _lead(self, batch: _Batch[Result]) -> None:
        try:
            batch.result = self._make()
        except BaseException as error:  # whoever shares the rendering shares its failure
            batch.error = error
        finally:
            with self._changed:
                batch.is_done = True
                self._is_running = False
                self._changed.notify_all()
