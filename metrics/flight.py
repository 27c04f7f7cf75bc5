"""Scrapes that arrive together share one rendering, and none sees what is older than itself.

A rendering shows what was committed when it began. A scrape may take it if it arrived before that; if it
arrived later, something may have been committed in between that its client already knows of, and it needs
a rendering that begins from now on. So of any number of scrapers at once two renderings are made at most:
one that the first of them began, and one for all who came while that was under way, however few threads
there are to serve them. Mostly it is one, since a rendering waits a moment for those who are about to ask.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition
from typing import Generic, TypeVar

Result = TypeVar("Result")

# How long a rendering waits for others: at most, and after the last that came.
GATHER_SECONDS = 0.010
QUIET_SECONDS = 0.001


class TimedOut(Exception):
    """No rendering was ready in time."""


@dataclass(frozen=True, slots=True)
class _Flown(Generic[Result]):
    """A rendering that is over: when it began (monotonic), and how it ended."""

    began: float
    result: Result | None
    error: BaseException | None


class Flight(Generic[Result]):
    """Runs `make` by one thread at a time."""

    def __init__(self, make: Callable[[], Result]) -> None:
        self._make = make
        self._changed = Condition()
        self._is_running = False
        self._last: _Flown[Result] | None = None
        self._came = 0  # how many have ever been in `coming`, are there now, and ask already
        self._coming = 0
        self._asking = 0

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Around what somebody does before asking for a result, and the asking: renderings wait a moment for it."""
        with self._changed:
            self._coming += 1
            self._came += 1
        try:
            yield
        finally:
            with self._changed:
                self._coming -= 1
                self._changed.notify_all()

    def result(self, *, since: float, timeout_seconds: float) -> Result:
        """What `make` gives in a call that began after `since` (by `time.monotonic`).

        Raises what `make` raises, or `TimedOut`.
        """
        with self._changed:
            self._asking += 1
            self._changed.notify_all()
        try:
            flown = self._await(since, time.monotonic() + timeout_seconds) or self._lead()
        finally:
            with self._changed:
                self._asking -= 1
        if flown.error is not None:
            raise flown.error
        return flown.result  # type: ignore[return-value]

    def forget(self, *, older_than_seconds: float) -> None:
        """Let go of a result that nobody who waits can want any more."""
        with self._changed:
            if self._last is not None and self._last.began < time.monotonic() - older_than_seconds:
                self._last = None

    def _await(self, since: float, deadline: float) -> _Flown[Result] | None:
        """A rendering that will do; None if this thread is to make one."""
        with self._changed:
            while self._last is None or self._last.began <= since:
                if not self._is_running:
                    self._is_running = True
                    return None
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimedOut
            return self._last

    def _gather(self) -> None:
        """Wait for those on their way, and for more as long as they come: the server may be reading their requests.

        Nobody waits who is alone.
        """
        deadline = time.monotonic() + GATHER_SECONDS
        came = -1
        with self._changed:
            while self._coming > 1 and came != self._came and time.monotonic() < deadline:
                came = self._came
                self._changed.wait_for(lambda: self._asking >= self._coming, deadline - time.monotonic())
                self._changed.wait_for(lambda: came != self._came, QUIET_SECONDS)  # noqa: B023 (used at once)

    def _lead(self) -> _Flown[Result]:
        self._gather()
        began, result, error = time.monotonic(), None, None
        try:
            result = self._make()
        except BaseException as raised:  # whoever shares the rendering shares its failure
            error = raised
        flown = _Flown(began, result, error)
        with self._changed:
            self._last = flown
            self._is_running = False
            self._changed.notify_all()
        return flown
