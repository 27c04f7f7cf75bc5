"""Counting containers' restarts, exits and kills for memory, by host and the container's name.

An agent keeps counts of its own, by name, and tells all of them; the server adds what they have grown by since it was
last told. They mean something only within their `epoch`, which is a new one when the agent has begun to count anew. Of an
agent of an earlier version, which does not count, the server takes what two inventories show: Docker's own number of
restarts, which begins anew when somebody starts the container, and that a container has ended.
"""

import datetime
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from django.db import connection
from django.db.models import Exists, OuterRef
from msgspec import UNSET

from dockmesh.core import clock
from dockmesh.core.compiled import as_datetime
from dockmesh.fleet import sql
from dockmesh.fleet.ingest.documents import ContainerEntry, Counts
from dockmesh.fleet.models import Container, ContainerCounts
from dockmesh.fleet.states import is_harmless_exit

KEPT_AFTER = datetime.timedelta(days=30)

Numbers = tuple[int, ...]
"""Restarts, successes, errors, kills for memory."""
NOTHING = (0, 0, 0, 0)

_UP = frozenset({"running", "paused"})
_ENDED = frozenset({"exited", "dead"})
_KILLED = 137

# Each container that is asked for as (host, its id, its name).
_GIVEN = {
    "sqlite": "SELECT json_extract(value, '$[0]') AS host_id, json_extract(value, '$[1]') AS container_id,"
    " json_extract(value, '$[2]') AS name FROM json_each(%s)",
    "postgresql": "SELECT (value->>0)::bigint AS host_id, value->>1 AS container_id, value->>2 AS name"
    " FROM json_array_elements(%s::json)",
}
_KNOWN = """
SELECT given.host_id, given.container_id, given.name, COALESCE(k.epoch, ''), COALESCE(k.seen, '0,0,0,0'),
       COALESCE(k.restarts, 0), COALESCE(k.successes, 0), COALESCE(k.errors, 0), COALESCE(k.oom_kills, 0),
       c.state, c.restart_count, c.is_oom_killed, c.finished_at
  FROM ({given}) AS given
  LEFT JOIN fleet_container c ON c.host_id = given.host_id AND c.container_id = given.container_id
  LEFT JOIN fleet_containercounts k ON k.host_id = given.host_id AND k.name = given.name
"""
_KNOWN_OF = {vendor: _KNOWN.format(given=given) for vendor, given in _GIVEN.items()}
_COUNTS = sql.ManyRows(
    "fleet_containercounts",
    key={"host_id": "bigint", "name": "text"},
    values={
        "epoch": "text",
        "seen": "text",
        "restarts": "bigint",
        "successes": "bigint",
        "errors": "bigint",
        "oom_kills": "bigint",
    },
)

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class _Row:
    """The counts of a name: restarts, successes, errors, kills for memory."""

    epoch: str
    seen: str
    totals: Numbers
    is_changed: bool = False


def count(changed: Iterable[tuple[int, ContainerEntry]], *, is_first: Mapping[int, bool]) -> None:
    """Count what has happened to these containers, which differ from what is stored of them; before that is written.

    `is_first` says of each host whether nothing was known of its containers: what happened before is not counted. The
    caller has locked the hosts. One query, and one that writes, whatever the number of containers.
    """
    asked = {(host_id, entry.id): entry for host_id, entry in changed if _may_count(entry, is_first[host_id])}
    if not asked:
        return
    given = _encode([(host_id, entry.id, entry.name) for (host_id, _), entry in asked.items()]).decode()
    rows: dict[tuple[int, str], _Row] = {}
    for host_id, container_id, name, epoch, seen, *more in sql.fetch(_KNOWN_OF[connection.vendor], [given]):
        # Two containers that are called alike, if only for a moment, share the row.
        row = rows.get((host_id, name))
        if row is None:
            row = rows[host_id, name] = _Row(epoch, seen, tuple(more[:4]))
        entry = asked[host_id, container_id]
        if entry.counts is UNSET:
            _add(row, _shown(entry, *more[4:]))
        else:
            _add_told(row, entry.counts)
    _COUNTS.upsert([(*key, row.epoch, row.seen, *row.totals) for key, row in rows.items() if row.is_changed])


def forget_counts() -> None:
    """Forget the counts of names that no container has had for `KEPT_AFTER`."""
    now = clock.now()
    containers = Container.objects.filter(host_id=OuterRef("host_id"), name=OuterRef("name"))
    ContainerCounts.objects.filter(Exists(containers), gone_at__isnull=False).update(gone_at=None)
    ContainerCounts.objects.filter(~Exists(containers), gone_at=None).update(gone_at=now)
    ContainerCounts.objects.filter(gone_at__lt=now - KEPT_AFTER).delete()


def _may_count(entry: ContainerEntry, is_first: bool) -> bool:
    counts = entry.counts
    if isinstance(counts, Counts):
        return bool(counts.restarts or counts.successes or counts.errors or counts.oom_kills)
    return not is_first and bool(entry.restart_count or entry.is_oom_killed or entry.state in _ENDED)


def _add_told(row: _Row, counts: Counts) -> None:
    now = (counts.restarts, counts.successes, counts.errors, counts.oom_kills)
    seen = ",".join(map(str, now))
    if (row.epoch, row.seen) == (counts.epoch, seen):
        return
    before = [int(number) for number in row.seen.split(",")]
    # Numbers that have fallen begin anew: the agent forgets a name that nothing is called by for long.
    is_same = row.epoch == counts.epoch and all(map(operator.ge, now, before))
    _add(row, tuple(map(operator.sub, now, before)) if is_same else now)
    row.epoch, row.seen, row.is_changed = counts.epoch, seen, True


def _add(row: _Row, more: Numbers) -> None:
    if more != NOTHING:
        row.totals = tuple(map(operator.add, row.totals, more))
        row.is_changed = True


def _shown(
    entry: ContainerEntry,
    state: str | None,
    restart_count: int | None,
    was_oom_killed: bool | int | None,
    finished_at: Any,
) -> Numbers:
    """What two inventories show; the other one as it is stored, all None if the container is not.

    Ends that nobody saw count as the last one did, or as errors while it runs again.
    """
    before = restart_count or 0
    restarts = entry.restart_count - before if entry.restart_count >= before else entry.restart_count
    exits = restarts + _has_ended(entry, state, finished_at)
    is_up = entry.state in _UP
    is_oom = entry.is_oom_killed and not is_up
    if is_oom and not exits and state in _ENDED and not was_oom_killed and entry.exit_code == _KILLED:
        # Docker tells only now what the end, which was counted as harmless, was for; that is not taken back.
        return restarts, 0, 1, 1
    is_harmless = not is_up and not is_oom and is_harmless_exit(entry.exit_code or 0, entry.stop_signal)
    # While it runs, the flag is of another process of it.
    oom_kills = exits if is_oom else int(is_up and entry.is_oom_killed and not was_oom_killed)
    return restarts, exits if is_harmless else 0, 0 if is_harmless else exits, oom_kills


def _has_ended(entry: ContainerEntry, state: str | None, stored_at: Any) -> bool:
    if entry.state not in _ENDED:
        return False
    finished_at = sql.kept_moment(entry.finished_at)
    if finished_at is not None and stored_at is not None:
        return finished_at != as_datetime(stored_at)
    # One that waited to be restarted has ended before, and that was counted with its restart.
    return state not in _ENDED and state != "restarting"
