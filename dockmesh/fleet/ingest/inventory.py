"""Bringing hosts' containers and stacks to what their agents' inventories say: read, compare, write."""

import datetime
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec
from django.db import connection

from dockmesh.fleet import sql
from dockmesh.fleet.ingest.counts import count
from dockmesh.fleet.ingest.documents import ContainerEntry
from dockmesh.fleet.models import Container, Stack
from dockmesh.fleet.services.stacks import drop_orphaned_series, lock_series
from dockmesh.fleet.states import container_counts, stack_counts, stack_state


@dataclass(frozen=True)
class Summary:
    """A host's counts by state, as its row keeps them."""

    container_counts: str
    stack_counts: str
    written: int
    """How many rows were; if none, all that /metrics shows of them is as before."""


# A host's marks in one value, a line each: a row for each container would cost several times as much.
_MARKS = (
    "SELECT host_id, {concatenated}(fingerprint || '\t' || container_id || '\t' || COALESCE(stack_id, 0) || '\t' || name,"
    " '\n') FROM fleet_container WHERE host_id IN {{keys}} GROUP BY host_id"
)
_MARKS_OF = {
    "sqlite": _MARKS.format(concatenated="group_concat"),
    "postgresql": _MARKS.format(concatenated="string_agg"),
}
_STACKS = (
    "SELECT host_id, id, name, state, is_managed, is_deploying, has_failed_deploy"
    " FROM fleet_stack WHERE host_id IN {keys}"
)
_CONTAINER_KEY = {"host_id": "bigint", "container_id": "text"}
_CONTAINER_FACTS = {
    "fingerprint": "text",
    "changed_at": "timestamptz",
    "image": "text",
    "service": "text",
    "state": "text",
    "health": "text",
    "exit_code": "integer",
    "is_oom_killed": "boolean",
    "restart_count": "integer",
    "restart_policy": "text",
    "is_oneoff": "boolean",
    "stop_signal": "text",
    "error": "text",
    "image_digest": "text",
    "created_at": "timestamptz",
    "started_at": "timestamptz",
    "finished_at": "timestamptz",
}
_CONTAINER_ROWS = sql.ManyRows(
    "fleet_container",
    key=_CONTAINER_KEY,
    values={**_CONTAINER_FACTS, "stack_id": "bigint", "name": "text"},
)
# Without the columns that have an index, which therefore need not be written.
_FACTS_OF_CONTAINERS = sql.ManyRows("fleet_container", key=_CONTAINER_KEY, values=_CONTAINER_FACTS)
_STACK_STATES = sql.ManyRows(
    "fleet_stack", key={"id": "bigint"}, values={"state": "text", "state_changed_at": "timestamptz"}
)
# Compares as it writes: what was read of the hosts before their locks were granted may be old.
_SUMMARIES = sql.ManyRows(
    "fleet_host", key={"id": "bigint"}, values={"container_counts": "text", "stack_counts": "text"}
)

_encode_lines = msgspec.json.Encoder().encode_lines


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


@dataclass(slots=True)
class _HostRows:
    """A host's containers as its agent has them now, beside what is stored of them and of its stacks."""

    host_id: int
    entries: Sequence[ContainerEntry]
    stored: set[str] = field(default_factory=set)
    """A mark for each stored container, which is another one if anything that is stored of it is."""
    stacks: dict[str, _StackRow] = field(default_factory=dict)
    new: dict[str, list[ContainerEntry]] = field(default_factory=dict)
    """The containers of each stack that is not stored yet."""
    written: int = 0


def apply_inventories(
    inventories: Mapping[int, Sequence[ContainerEntry]],
    now: datetime.datetime,
    *,
    is_first: Mapping[int, bool],
) -> dict[int, Summary]:
    """Write what differs from the containers of each host (by its id); the caller has locked the hosts.

    `is_first` says of each host whether this is its first inventory.
    The number of queries depends neither on how many hosts there are nor on how many containers differ; only a host
    that has lost containers costs one more.
    """
    hosts = _read(inventories) if inventories else ()
    gone = [row for host in hosts for row in _sort_into_stacks(host)]
    lock_series({row.name for row in gone}.union(*(host.new for host in hosts)))
    _add_stacks(hosts, now)
    _write_containers(hosts, now, is_first)
    if gone:
        Stack.objects.filter(pk__in=[row.id for row in gone]).delete()
        drop_orphaned_series({row.name for row in gone})
    _keep_states(hosts, now)
    return {
        host.host_id: Summary(
            container_counts(entry.state for entry in host.entries),
            stack_counts(row.state for row in host.stacks.values()),
            host.written,
        )
        for host in hosts
    }


def write_summaries(summaries: Mapping[int, Summary]) -> None:
    """Write the summaries of these hosts, where they are other than the last."""
    _SUMMARIES.update_different(
        [(host_id, each.container_counts, each.stack_counts) for host_id, each in summaries.items()]
    )


def _read(inventories: Mapping[int, Sequence[ContainerEntry]]) -> Sequence[_HostRows]:
    hosts = {host_id: _HostRows(host_id, entries) for host_id, entries in inventories.items()}
    for host_id, marks in sql.fetch_among(_MARKS_OF[connection.vendor], list(hosts)):
        hosts[host_id].stored = set(marks.split("\n"))
    for host_id, *columns in sql.fetch_among(_STACKS, list(hosts)):
        row = _StackRow(*columns)
        hosts[host_id].stacks[row.name] = row
    return list(hosts.values())


def _sort_into_stacks(host: _HostRows) -> Sequence[_StackRow]:
    """Give each stack its members; the stacks that are over are taken out and returned."""
    for entry in host.entries:
        if entry.stack:
            stack = host.stacks.get(entry.stack)
            (host.new.setdefault(entry.stack, []) if stack is None else stack.members).append(entry)
    gone = [row for row in host.stacks.values() if not (row.members or row.is_managed or row.is_deploying)]
    for row in gone:
        del host.stacks[row.name]
    # A stack comes and goes with the series of its name.
    host.written += 2 * (len(host.new) + len(gone))
    return gone


def _add_stacks(hosts: Sequence[_HostRows], now: datetime.datetime) -> None:
    wanted = [(host, name) for host in hosts for name in sorted(host.new)]
    if not wanted:
        return
    made = Stack.objects.bulk_create(
        [
            Stack(
                host_id=host.host_id,
                name=name,
                state=stack_state(host.new[name], is_deploying=False, has_failed_deploy=False),
                state_changed_at=now,
            )
            for host, name in wanted
        ]
    )
    for (host, name), stack in zip(wanted, made, strict=True):
        host.stacks[name] = _StackRow(stack.pk, name, stack.state, False, False, False, host.new[name])


def _keep_states(hosts: Sequence[_HostRows], now: datetime.datetime) -> None:
    changed = []
    for host in hosts:
        for row in host.stacks.values():
            if row.name in host.new:
                continue
            state = stack_state(
                row.members, is_deploying=row.is_deploying, has_failed_deploy=row.has_failed_deploy
            ).value
            if state != row.state:
                row.state = state
                changed.append((row.id, state, now))
                host.written += 1
    _STACK_STATES.update(changed)


def _write_containers(
    hosts: Sequence[_HostRows], now: datetime.datetime, is_first: Mapping[int, bool]
) -> None:
    changed: list[tuple[int, ContainerEntry]] = []
    gone: dict[int, Collection[str]] = {}
    facts: list[sql.Row] = []
    rows: list[sql.Row] = []
    for host in hosts:
        marks = _marks(host)
        # What is stored otherwise, by the container's id.
        others = {mark.split("\t")[1]: mark.split("\t")[2:] for mark in host.stored.difference(marks)}
        for entry, mark in zip(host.entries, marks, strict=True):
            if mark in host.stored:
                continue
            host.written += 1
            changed.append((host.host_id, entry))
            fingerprint, _, stack_id, _ = mark.split("\t")
            row = (host.host_id, entry.id, fingerprint, now, *_facts(entry))
            if others.pop(entry.id, None) == [stack_id, entry.name]:
                facts.append(row)
            else:
                rows.append((*row, int(stack_id) or None, entry.name))
        host.written += len(others)
        gone[host.host_id] = others
    count(changed, is_first=is_first)
    for host_id, lost in gone.items():
        if lost:
            Container.objects.filter(host_id=host_id, container_id__in=lost).delete()
    _FACTS_OF_CONTAINERS.update(facts)
    _CONTAINER_ROWS.upsert(rows)


def _marks(host: _HostRows) -> Sequence[str]:
    """What the database makes of each container once it is stored as its entry says: see `_MARKS`."""
    stack_ids = {row.name: row.id for row in host.stacks.values()}
    return [
        f"{fingerprint}\t{entry.id}\t{stack_ids.get(entry.stack or '', 0)}\t{entry.name}"
        for entry, fingerprint in zip(host.entries, _fingerprints(host.entries), strict=True)
    ]


def _fingerprints(entries: Sequence[ContainerEntry]) -> Iterator[str]:
    """Of all that an entry says, as JSON, in which no line break stands for itself."""
    lines = _encode_lines(entries).split(b"\n")[: len(entries)]
    return (blake2b(line, digest_size=16).hexdigest() for line in lines)


def _facts(entry: ContainerEntry) -> tuple[Any, ...]:
    """The values of `_CONTAINER_FACTS` from `image` on."""
    return (
        entry.image,
        entry.service or "",
        entry.state,
        "" if entry.health == "none" else entry.health or "",
        entry.exit_code or 0,
        entry.is_oom_killed,
        entry.restart_count,
        entry.restart_policy or "",
        entry.is_oneoff is True,
        entry.stop_signal or "",
        entry.error or "",
        entry.image_digest or "",
        sql.kept_moment(entry.created_at),
        sql.kept_moment(entry.started_at),
        sql.kept_moment(entry.finished_at),
    )
