"""Bringing a host's containers and stacks to what its agent's inventory says: read, compare, write."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec

from dockmesh.fleet import sql
from dockmesh.fleet.documents import ContainerEntry
from dockmesh.fleet.models import Container, Stack
from dockmesh.fleet.services.stacks import drop_orphaned_series, lock_series
from dockmesh.fleet.states import container_counts, stack_counts, stack_state

# Docker's "never": the year 1.
NEVER_BEFORE = datetime.datetime(1971, 1, 1, tzinfo=datetime.UTC)
NEVER_AFTER = datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Summary:
    """A host's counts by state, as its row keeps them."""

    container_counts: str
    stack_counts: str


FACTS = (
    "name",
    "image",
    "service",
    "state",
    "health",
    "exit_code",
    "is_oom_killed",
    "restart_count",
    "created_at",
    "started_at",
)
_COLUMNS = ("host_id", "container_id", "stack_id", "fingerprint", "changed_at", *FACTS)
_ROW = f"({','.join(['%s'] * len(_COLUMNS))})"
_CONTAINERS = "SELECT container_id, stack_id, fingerprint FROM fleet_container WHERE host_id = %s"
_STACKS = (
    "SELECT id, name, state, is_managed, is_deploying, has_failed_deploy FROM fleet_stack WHERE host_id = %s"
)
_STATE = "UPDATE fleet_stack SET state = %s, state_changed_at = %s WHERE id IN ({ids})"
# The names are those above: no value is in the text.
_UPSERT = (
    f"INSERT INTO fleet_container ({','.join(_COLUMNS)}) VALUES {{rows}}"  # noqa: S608
    f" ON CONFLICT (host_id, container_id) DO UPDATE SET "
    f"{','.join(f'{name} = EXCLUDED.{name}' for name in _COLUMNS[2:])}"
)
# SQLite takes 32,766 values in one statement at the least, older ones 999.
ROWS_IN_A_STATEMENT = 999 // len(_COLUMNS)

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class _StackRow:
    """A stack as it is stored, and the containers that it has now."""

    id: int
    name: str
    state: str
    is_managed: bool
    is_deploying: bool
    has_failed_deploy: bool
    members: list[ContainerEntry] = field(default_factory=list)


def apply_inventory(host_id: int, entries: Sequence[ContainerEntry], now: datetime.datetime) -> Summary:
    """Write what differs; the caller has locked the host. The queries' number does not depend on how many differ
    (but for the database's limit of values in one statement)."""
    stored = {
        container_id: (stack_id, fingerprint)
        for container_id, stack_id, fingerprint in sql.fetch(_CONTAINERS, [host_id])
    }
    stacks = {row[1]: _StackRow(*row) for row in sql.fetch(_STACKS, [host_id])}
    new: dict[str, list[ContainerEntry]] = {}
    for entry in entries:
        if entry.stack:
            stack = stacks.get(entry.stack)
            (new.setdefault(entry.stack, []) if stack is None else stack.members).append(entry)
    gone = [row for row in stacks.values() if not (row.members or row.is_managed or row.is_deploying)]
    if new or gone:
        lock_series({*new, *(row.name for row in gone)})
    if new:
        stacks |= _add_stacks(host_id, new, now)
    _write_containers(host_id, entries, stored, stacks, now)
    if gone:
        Stack.objects.filter(pk__in=[row.id for row in gone]).delete()
        drop_orphaned_series([row.name for row in gone])
        for row in gone:
            del stacks[row.name]
    _keep_states([row for row in stacks.values() if row.name not in new], now)
    return Summary(
        container_counts(entry.state for entry in entries), stack_counts(row.state for row in stacks.values())
    )


def _add_stacks(
    host_id: int, members: dict[str, list[ContainerEntry]], now: datetime.datetime
) -> dict[str, _StackRow]:
    made = Stack.objects.bulk_create(
        [
            Stack(
                host_id=host_id,
                name=name,
                state=stack_state(members[name], is_deploying=False, has_failed_deploy=False),
                state_changed_at=now,
            )
            for name in sorted(members)
        ]
    )
    return {
        stack.name: _StackRow(stack.pk, stack.name, stack.state, False, False, False, members[stack.name])
        for stack in made
    }


def _keep_states(rows: Sequence[_StackRow], now: datetime.datetime) -> None:
    """One statement for each state that any stack has come to."""
    changed: dict[str, list[int]] = {}
    for row in rows:
        state = stack_state(
            row.members, is_deploying=row.is_deploying, has_failed_deploy=row.has_failed_deploy
        ).value
        if state != row.state:
            row.state = state
            changed.setdefault(state, []).append(row.id)
    for state, ids in changed.items():
        sql.run(_STATE.format(ids=sql.placeholders(len(ids))), [state, now, *ids])


def _write_containers(
    host_id: int,
    entries: Sequence[ContainerEntry],
    stored: dict[str, tuple[int, str]],
    stacks: dict[str, _StackRow],
    now: datetime.datetime,
) -> None:
    changed = []
    for entry in entries:
        stack_id = stacks[entry.stack].id if entry.stack else None
        fingerprint = blake2b(_encode(entry), digest_size=16).hexdigest()
        if stored.pop(entry.id, None) != (stack_id, fingerprint):
            changed.append((host_id, entry.id, stack_id, fingerprint, now, *_facts(entry)))
    for start in range(0, len(changed), ROWS_IN_A_STATEMENT):
        _upsert(changed[start : start + ROWS_IN_A_STATEMENT])
    if stored:
        Container.objects.filter(host_id=host_id, container_id__in=list(stored)).delete()


def _upsert(rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert or overwrite containers."""
    values = [value for row in rows for value in row]
    sql.run(_UPSERT.format(rows=",".join([_ROW] * len(rows))), values)


def _facts(entry: ContainerEntry) -> tuple[Any, ...]:
    """The values of `FACTS`."""
    return (
        entry.name,
        entry.image,
        entry.service or "",
        entry.state,
        "" if entry.health == "none" else entry.health or "",
        entry.exit_code or 0,
        entry.is_oom_killed,
        entry.restart_count,
        _moment(entry.created_at),
        _moment(entry.started_at),
    )


def _moment(value: datetime.datetime | None) -> datetime.datetime | None:
    """In UTC; None for Docker's "never" and for what no calendar of a database holds."""
    if value is None or not NEVER_BEFORE <= value < NEVER_AFTER:
        return None
    return value.astimezone(datetime.UTC)
