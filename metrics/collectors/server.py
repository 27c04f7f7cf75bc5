"""How dockmesh itself fares: what the agents send and wait for, who scrapes, the scheduler and the database."""

from dockmesh.audit import selectors as audit
from dockmesh.core import health, tally
from dockmesh.fleet import selectors as fleet
from dockmesh.scheduler import selectors as scheduler
from metrics import events
from metrics import families as f
from metrics.collectors.base import Collector, Found, Scrape
from metrics.exposition import Family, KeptLines

_EVENTS = {tally.HEARTBEATS: f.HEARTBEATS, tally.SCRAPES: f.SCRAPES}


class ServerCollector(Collector):
    """Five queries."""

    name = "server"
    families = (
        *_EVENTS.values(),
        f.COMMANDS_OPEN,
        f.COMMAND_OLDEST_AGE,
        f.SCHEDULER_LEADER,
        f.DATABASE_SIZE,
        f.AUDIT_HEAD,
    )
    queries = (events.COUNTS, fleet.OPEN_COMMANDS, scheduler.HOLDER, health.DATABASE_BYTES, audit.HEAD)

    def __init__(self) -> None:
        self._lines = {
            family: KeptLines(family)
            for family in (
                *_EVENTS.values(),
                f.COMMANDS_OPEN,
                f.COMMAND_OLDEST_AGE,
                f.SCHEDULER_LEADER,
                f.DATABASE_SIZE,
                f.AUDIT_HEAD,
            )
        }

    def collect(self, scrape: Scrape) -> Found:
        """Every result and every kind of command, also at 0."""
        counts = events.counts()
        commands = fleet.open_commands(scrape.now)
        oldest = max((each.oldest_seconds for each in commands), default=0.0)
        samples: dict[Family, list[tuple[tuple[str, ...], float]]] = {
            f.COMMANDS_OPEN: [((each.kind, each.status), each.count) for each in commands],
            f.COMMAND_OLDEST_AGE: [((), round(max(oldest, 0.0), 3))],
            f.SCHEDULER_LEADER: [((), scheduler.is_leader())],
            f.DATABASE_SIZE: [((), health.database_bytes())],
            f.AUDIT_HEAD: [((), audit.head_sequence())],
        }
        for event, family in _EVENTS.items():
            samples[family] = [((result,), count) for (at, result), count in counts.items() if at == event]
        return {family: self._lines[family].fragments(of_family) for family, of_family in samples.items()}
