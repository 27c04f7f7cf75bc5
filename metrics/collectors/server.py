"""How dockmesh itself fares: what the agents send and wait for, who scrapes, the scheduler and the database."""

from dockmesh.audit import selectors as audit
from dockmesh.core import health, tally
from dockmesh.fleet import selectors as fleet
from dockmesh.scheduler import selectors as scheduler
from metrics import events
from metrics import families as f
from metrics.collectors.base import Found, Scrape
from metrics.exposition import Family, Piece, sample_lines
from metrics.groups import Group

_EVENTS = {tally.HEARTBEATS: f.HEARTBEATS, tally.SCRAPES: f.SCRAPES}


class ServerCollector:
    """Five queries."""

    name = "server"
    reads_database = True
    groups = frozenset({Group.SERVER})

    def collect(self, scrape: Scrape) -> Found:
        """Every result and every kind of command, also at 0."""
        counts = events.counts()
        commands = fleet.open_commands(scrape.now)
        open_commands = [((each.kind, each.status), each.count) for each in commands]
        oldest = max((each.oldest_seconds for each in commands), default=0.0)
        return {
            **{
                family: [
                    Piece.of(
                        sample_lines(
                            family, [((result,), n) for (at, result), n in counts.items() if at == event]
                        )
                    )
                ]
                for event, family in _EVENTS.items()
            },
            f.COMMANDS_OPEN: [Piece.of(sample_lines(f.COMMANDS_OPEN, open_commands))],
            f.COMMAND_OLDEST_AGE: _one(f.COMMAND_OLDEST_AGE, round(max(oldest, 0.0), 3)),
            f.SCHEDULER_LEADER: _one(f.SCHEDULER_LEADER, scheduler.is_leader()),
            f.DATABASE_SIZE: _one(f.DATABASE_SIZE, health.database_bytes()),
            f.AUDIT_HEAD: _one(f.AUDIT_HEAD, audit.head_sequence()),
        }


def _one(family: Family, value: float) -> list[Piece]:
    return [Piece.of(sample_lines(family, [((), value)]))]
