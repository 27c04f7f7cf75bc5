"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Callable

MAX_RETRY_AFTER_SECONDS = 600.0


class Backoff:
    """Exponential with jitter: each failure doubles the wait up to `longest`, and the wait is drawn from
    its upper half, so that a thousand agents don't come back to a restarted server in step."""

    def __init__(
        self, *, first: float = 1.0, longest: float = 30.0, draw: Callable[[], float] = random.random
    ) -> None:
        self._first = first
        self._longest = longest
        self._draw = draw
        self._failures = 0

    def failed(self, *, retry_after: float | None = None) -> float:
        """Seconds to wait after one more failure, never less than the server asked for by Retry-After."""
        ceiling = min(self._longest, self._first * 2.0 ** min(self._failures, 32))
        self._failures += 1
        wait = ceiling * (0.5 + 0.5 * self._draw())
        if retry_after is not None:
            wait = max(wait, min(retry_after, MAX_RETRY_AFTER_SECONDS))
        return wait

    def succeeded(self) -> None:
        self._failures = 0
