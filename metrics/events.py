"""Durable counts of heartbeats and scrapes by how they ended: what `dockmesh.core.tally` gathers, written once a second."""

from collections.abc import Mapping

from django.db import connection, transaction

from dockmesh.core import tally
from dockmesh.core.compiled import CompiledQuery
from metrics.models import EventCount

# The results that each is born with.
RESULTS = {
    tally.HEARTBEATS: ("accepted", "stale", "inventory_wanted", "refused", "failed"),
    tally.SCRAPES: ("success", "refused", "unavailable"),
}

COUNTS = CompiledQuery(lambda: EventCount.objects.values_list("event", "result", "count"))


def flush() -> None:
    """Write what came since the last time; if the database refuses, it is kept for the next time."""
    tally.events.flush(_write)


def counts() -> dict[tuple[str, str], int]:
    """(event, result) → how often, ever; also what never happened; one query."""
    found = {(event, result): 0 for event, results in RESULTS.items() for result in results}
    return found | {(event, result): count for event, result, count in COUNTS.rows()}


def _write(new: Mapping[tuple[str, str], int]) -> None:
    table = connection.ops.quote_name(EventCount._meta.db_table)
    # Sorted, so that two replicas that write the same rows wait for each other instead of locking up.
    rows = [(*key, count) for key, count in sorted(new.items())]
    values = ", ".join(["(%s, %s, %s)"] * len(rows))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (event, result, count) VALUES {values}"  # noqa: S608 (constants)
            f" ON CONFLICT (event, result) DO UPDATE SET count = {table}.count + excluded.count",
            [value for row in rows for value in row],
        )
