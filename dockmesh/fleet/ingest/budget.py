"""What one agent may make the server write: a budget for each, so that none of them hurts anybody but its own host.

A host whose budget is used up is heard as ever; its inventory is taken again as soon as the budget has grown, and the
server's answer `inventory_wanted` makes the agent send it; what it tells of usage meanwhile is left out. The budget is kept by each process for itself.
"""

import threading
import time
from collections.abc import Callable

# Rows a minute: enough for the largest host to change all of its containers, and some.
ROWS_A_MINUTE = 10_000.0
# Comparing an inventory that has not changed costs this part of writing it.
COMPARED = 50
MOST_AGENTS = 20_000


class Budget:
    """The budgets of all agents, each by the id of its token."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._used: dict[str, tuple[float, float]] = {}

    def has_any(self, token_id: str) -> bool:
        """Whether the agent may send a whole inventory, or usage, now."""
        with self._lock:
            return self._left(token_id) > 0

    def charge(self, token_id: str, *, written: int, compared: int) -> None:
        """Take what an inventory cost: the rows that it wrote, and the entries that were compared."""
        cost = max(written, 1 + compared // COMPARED)
        with self._lock:
            left = self._left(token_id)
            if token_id not in self._used and len(self._used) >= MOST_AGENTS:
                self._used.clear()
            self._used[token_id] = (left - cost, self._clock())

    def _left(self, token_id: str) -> float:
        left, at = self._used.get(token_id, (ROWS_A_MINUTE, self._clock()))
        return min(ROWS_A_MINUTE, left + (self._clock() - at) * ROWS_A_MINUTE / 60)


budget = Budget()
