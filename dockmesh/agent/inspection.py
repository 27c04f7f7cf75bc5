"""Inspects containers, each in a thread that it may block: one that hangs holds up no other."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Union
from urllib.parse import quote

from dockmesh.agent.engine import Engine, EngineError

log = logging.getLogger("dockmesh.agent")

# So long nothing may come back before the rest is gone on without.
PATIENCE_SECONDS = 1.0
FEWEST_THREADS, MOST_THREADS = 4, 32
# A container that could not be inspected is tried again after this, twice as long each time, up to the longest.
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 5.0, 60.0

GONE = "gone"
Outcome = Union[Mapping[str, Any], str, None]
"""The Engine's answer; GONE; None where it gave none."""


def _inspected(engine: Engine, identity: str) -> Mapping[str, Any]:
    path = f"/containers/{quote(identity, safe='')}/json"
    answer = engine.get(path)
    if not isinstance(answer, Mapping) or not isinstance(answer.get("State"), Mapping):
        raise EngineError(path, 200, "the answer is not a container")
    return answer


@dataclass(frozen=True)
class Question:
    """What is asked of each container, and what a failure is called in the log."""

    ask: Callable[[Engine, str], Mapping[str, Any]]
    path: str
    failure: str
    # More than so many containers in turn are not left to one thread.
    most_for_a_thread: int = 1_000_000
    # So long nothing may come back before the rest is gone on without.
    patience_seconds: float = PATIENCE_SECONDS


INSPECTION = Question(
    _inspected, "/containers/{id}/json", "can't be inspected, and is reported as the list tells it"
)


class Inspector:
    """Asks for containers in threads of its own. What comes too late is kept, and `on_late` is called."""

    def __init__(
        self,
        connect: Callable[[], Engine],
        on_late: Callable[[], None] | None,
        question: Question = INSPECTION,
    ) -> None:
        """Without `on_late` what comes too late is dropped."""
        # Why it is not allowed; None while it is.
        self.refused: EngineError | None = None
        self._connect = connect
        self._on_late = on_late
        self._question = question
        self._guard = threading.Condition()
        self._queue: deque[str] = deque()
        self._asked: set[str] = set()
        self._done: dict[str, Outcome] = {}
        self._trouble: dict[str, tuple[float, float]] = {}
        self._awaited: set[str] = set()
        self._threads = 0
        self._is_closed = False

    def inspect(self, identities: Iterable[str]) -> dict[str, Outcome]:
        """The outcomes that are there by now; the caller asks again for those that are not."""
        wanted = list(identities)
        with self._guard:
            now = time.monotonic()
            new = [
                each
                for each in wanted
                if each not in self._done
                and each not in self._asked
                and now >= self._trouble.get(each, (0.0, 0.0))[0]
            ]
            self._queue.extend(new)
            self._asked.update(new)
            self._awaited = set(new)
            fewest = max(FEWEST_THREADS, math.ceil(len(self._asked) / self._question.most_for_a_thread))
            self._hire(min(fewest, len(self._asked)) - self._threads)
            self._guard.notify_all()
            self._wait()
            self._awaited = set()
            outcomes = {each: self._done[each] for each in wanted if each in self._done}
            self._done.clear()
            return outcomes

    def forget_others(self, identities: Iterable[str]) -> None:
        """Keep in mind only the trouble with these."""
        with self._guard:
            self._trouble = {each: self._trouble[each] for each in identities if each in self._trouble}

    def close(self) -> None:
        with self._guard:
            self._is_closed = True
            self._queue.clear()
            self._guard.notify_all()

    def _wait(self) -> None:
        left, patience = len(self._awaited), self._question.patience_seconds
        deadline = time.monotonic() + patience
        while self._awaited and not self._is_closed:
            self._guard.wait(max(deadline - time.monotonic(), 0.0))
            if len(self._awaited) < left:
                left, deadline = len(self._awaited), time.monotonic() + patience
            elif time.monotonic() >= deadline:
                if not self._queue or self._threads >= MOST_THREADS:
                    return
                # All threads hang, and others still wait for their turn.
                self._hire(min(FEWEST_THREADS, len(self._queue)))
                deadline = time.monotonic() + patience

    def _hire(self, count: int) -> None:
        for _ in range(min(count, MOST_THREADS - self._threads)):
            self._threads += 1
            threading.Thread(target=self._work, name="inspect", daemon=True).start()

    def _work(self) -> None:
        engine: Engine | None = None
        while True:
            with self._guard:
                while not self._queue and not self._is_closed:
                    self._guard.wait()
                if self._is_closed:
                    break
                identity = self._queue.popleft()
            outcome: Outcome = None
            try:
                engine = engine or self._connect()
                outcome = self._question.ask(engine, identity)
            except EngineError as error:
                if error.status == 404:
                    outcome = GONE
                else:
                    self._failed(identity, error)
            except Exception as error:
                # Whatever it is: this thread goes on with the others.
                self._failed(identity, error)
                if engine is not None:
                    engine.close()
                    engine = None
            self._finished(identity, outcome)
        if engine is not None:
            engine.close()

    def _failed(self, identity: str, error: Exception) -> None:
        with self._guard:
            if self._is_closed:
                return
            _, wait = self._trouble.get(identity, (0.0, 0.0))
            is_new = not wait
            wait = min(max(FIRST_RETRY_SECONDS, wait * 2), LONGEST_RETRY_SECONDS)
            self._trouble[identity] = (time.monotonic() + wait, wait)
            is_news = is_new
            if isinstance(error, EngineError) and error.status in (401, 403):
                is_news = self.refused is None
                self.refused = EngineError(self._question.path, error.status, "Forbidden")
        if is_news:
            log.warning("Container %.12s %s: %s", identity, self._question.failure, error)

    def _finished(self, identity: str, outcome: Outcome) -> None:
        with self._guard:
            self._asked.discard(identity)
            is_late = identity not in self._awaited
            if self._on_late is not None or not is_late:
                self._done[identity] = outcome
            self._awaited.discard(identity)
            if isinstance(outcome, Mapping):
                self._trouble.pop(identity, None)
                self.refused = None
            self._guard.notify_all()
        if is_late and outcome is not None and self._on_late is not None:
            self._on_late()
