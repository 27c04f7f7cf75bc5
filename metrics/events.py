"""Durable counts of heartbeats and scrapes by how they ended: what `dockmesh.core.tally` has written."""

from dockmesh.core import tally
from dockmesh.core.compiled import CompiledQuery
from metrics.models import EventCount

# The results that each is born with.
RESULTS = {
    tally.HEARTBEATS: ("accepted", "stale", "inventory_wanted", "refused", "failed"),
    tally.SCRAPES: ("success", "refused", "unavailable"),
}

COUNTS = CompiledQuery(lambda: EventCount.objects.values_list("event", "result", "count"))


def counts() -> dict[tuple[str, str], int]:
    """(event, result) → how often, ever; also what never happened; one query."""
    found = {(event, result): 0 for event, results in RESULTS.items() for result in results}
    return found | {(event, result): count for event, result, count in COUNTS.rows()}
