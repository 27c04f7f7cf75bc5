"""Scrapes that arrive together share one rendering, and none sees what is older than itself.

A rendering shows what was committed when it began. A scrape may take it if it arrived before that; if it
arrived later, something may have been committed in between that its client already knows of, and it needs
a rendering that begins from now on. So of any number of scrapers at once two renderings are made at most:
one that the first of them began, and one for all who came while that was under way, however few threads
there are to serve them. Mostly it is one, since a rendering waits a moment for those who are about to ask.

Not all want the same parts. A rendering makes what those who wait for it want together, so that there are no more
of them however the wants differ; one that was made for more serves who wants less, and one that was made for less
never makes the others wait for what it left out: it is over sooner.
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


@dataclass(frozen=True, slots=True, eq=False)
class _Ask:
    """Somebody who waits for a rendering of these parts that began after a moment (monotonic)."""

    parts: frozenset[str]
    since: float


@dataclass(frozen=True, slots=True)
class _Flown(Generic[Result]):
    """A rendering that is over: of what, when it began (monotonic), and how it ended."""

    parts: frozenset[str]
    began: float
    result: Result | None
    error: BaseException | None


class SingleFlight(Generic[Result]):
    """Runs `make` by one thread at a time."""

    def __init__(self, make: Callable[[frozenset[str]], Result]) -> None:
        self._make = make
        self._changed = Condition()
        self._is_running = False
        # The last ones, none of which has parts that a later one has as well as all its others.
        self._flown: list[_Flown[Result]] = []
        self._came = 0  # how many have ever been in `coming`, and are there now
        self._coming = 0
        self._asking: set[_Ask] = set()

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

    def result(self, parts: frozenset[str], *, since: float, timeout_seconds: float) -> Result:
        """What `make` gives for these parts, or for more, in a call that began after `since` (by `time.monotonic`).

        Raises what `make` raises, or `TimedOut`.
        """
        ask = _Ask(parts, since)
        with self._changed:
            self._asking.add(ask)
            self._changed.notify_all()
        try:
            flown = self._await(ask, time.monotonic() + timeout_seconds) or self._lead()
        finally:
            with self._changed:
                self._asking.remove(ask)
        if flown.error is not None:
            raise flown.error
        return flown.result  # type: ignore[return-value]

    def forget(self, *, older_than_seconds: float) -> None:
        """Let go of results that nobody who waits can want any more."""
        with self._changed:
            oldest = time.monotonic() - older_than_seconds
            self._flown = [flown for flown in self._flown if flown.began >= oldest]

    def _await(self, ask: _Ask, deadline: float) -> _Flown[Result] | None:
        """A rendering that will do; None if this thread is to make one."""
        with self._changed:
            while (flown := self._ready(ask)) is None:
                if not self._is_running:
                    self._is_running = True
                    return None
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimedOut
            return flown

    def _ready(self, ask: _Ask) -> _Flown[Result] | None:
        """A rendering that is over and will do."""
        fitting = (flown for flown in self._flown if flown.began > ask.since and flown.parts >= ask.parts)
        return next(fitting, None)

    def _gather(self) -> None:
        """Wait for those on their way, and for more as long as they come: the server may be reading their requests.

        Nobody waits who is alone.
        """
        deadline = time.monotonic() + GATHER_SECONDS
        came = -1
        with self._changed:
            while self._coming > 1 and came != self._came and time.monotonic() < deadline:
                came = self._came
                self._changed.wait_for(lambda: len(self._asking) >= self._coming, deadline - time.monotonic())
                self._changed.wait_for(lambda: came != self._came, QUIET_SECONDS)  # noqa: B023 (used at once)

    def _lead(self) -> _Flown[Result]:
        self._gather()
        with self._changed:
            # Who has only not yet woken up to take what is ready makes this one no larger.
            parts = frozenset[str]().union(*(ask.parts for ask in self._asking if not self._ready(ask)))
            began, result, error = time.monotonic(), None, None
        try:
            result = self._make(parts)
        except BaseException as raised:  # whoever shares the rendering shares its failure
            error = raised
        flown = _Flown(parts, began, result, error)
        with self._changed:
            self._flown = [flown, *(other for other in self._flown if not other.parts <= parts)]
            self._is_running = False
            self._changed.notify_all()
        return flown
