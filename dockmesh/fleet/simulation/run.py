"""Running simulated agents side by side: a few threads, each with its own agents and its own connection."""

import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dockmesh.fleet.simulation.agent import Client, Refused, SimulatedAgent, Unreachable

MAX_THREADS = 16
BACK_OFF_SECONDS = 2.0
PRINT_EVERY_SECONDS = 5.0
REMEMBERED_TIMES = 5000


@dataclass
class Tally:
    """What the threads have done; they share it under its lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    heartbeats: int = 0
    refused: int = 0
    unreachable: int = 0
    last_error: str = ""
    seconds: list[float] = field(default_factory=list)

    def count(self, seconds: float) -> None:
        """One heartbeat was taken."""
        with self.lock:
            self.heartbeats += 1
            self.seconds.append(seconds)
            del self.seconds[:-REMEMBERED_TIMES]

    def fail(self, error: Exception) -> None:
        """One heartbeat was not."""
        with self.lock:
            self.last_error = str(error)
            if isinstance(error, Refused):
                self.refused += 1
            else:
                self.unreachable += 1

    def line(self, agents: Sequence[SimulatedAgent], passed: float) -> str:
        """Where it stands, for the user."""
        with self.lock:
            times = sorted(self.seconds)
            silent = sum(agent.host.is_silent for agent in agents)
            text = (
                f"{len(agents)} hosts, {silent} silent; {self.heartbeats} heartbeats"
                f" ({self.heartbeats / max(passed, 0.001):.1f}/s), {self.refused} refused, {self.unreachable} lost"
            )
            if times:
                text += f"; median {_quantile(times, 0.5) * 1000:.1f} ms, p99 {_quantile(times, 0.99) * 1000:.1f} ms"
            if self.last_error:
                text += f"; last error: {self.last_error}"
                self.last_error = ""
        return text


def run(
    agents: Sequence[SimulatedAgent],
    *,
    server: str,
    duration_seconds: float | None,
    interval_seconds: float | None,
    say: Callable[[str], None],
    stop: threading.Event,
) -> Tally:
    """Until `stop` is set or the time is over; `say` is given a line every few seconds."""
    tally = Tally()
    count = min(MAX_THREADS, len(agents))
    threads = [
        threading.Thread(
            target=_drive, args=(agents[index::count], server, interval_seconds, tally, stop), daemon=True
        )
        for index in range(count)
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    ends = math.inf if duration_seconds is None else began + duration_seconds
    while not stop.is_set() and time.monotonic() < ends:
        stop.wait(min(PRINT_EVERY_SECONDS, max(ends - time.monotonic(), 0.01)))
        say(tally.line(agents, time.monotonic() - began))
    stop.set()
    for thread in threads:
        thread.join(timeout=35)
    return tally


def _drive(
    agents: Sequence[SimulatedAgent],
    server: str,
    interval_seconds: float | None,
    tally: Tally,
    stop: threading.Event,
) -> None:
    """One thread: always the agent whose turn is next; at first all at once, then each at its own time."""
    client = Client(server)
    order = itertools.count()
    due = [(time.monotonic(), next(order), agent) for agent in agents]
    heapq.heapify(due)
    while not stop.is_set():
        at, _, agent = heapq.heappop(due)
        if stop.wait(max(at - time.monotonic(), 0.0)):
            break
        began = time.monotonic()
        wait = interval_seconds or agent.interval_seconds
        try:
            if agent.step(client):
                tally.count(time.monotonic() - began)
            if agent.work:
                wait = min(wait, 1.0)
        except (Refused, Unreachable) as error:
            tally.fail(error)
            wait = max(wait, BACK_OFF_SECONDS)
        jitter = agent.host.chance.uniform(0.9, 1.1)
        heapq.heappush(due, (began + wait * jitter, next(order), agent))
    client.close()


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
