"""Bringing a host's containers and stacks to what its agent's inventory says: read, compare, write."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

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


# What is compared, in this order; `stack` is the stack's name here.
FIELDS = (
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
Facts = tuple[str, str, str, str, str, int, bool, int, datetime.datetime | None, datetime.datetime | None]


def apply_inventory(host_id: int, entries: Sequence[ContainerEntry], now: datetime.datetime) -> Summary:
    """Write what differs; the caller has locked the host. The queries' number does not depend on how many differ
    (but for the database's limit of values in one statement)."""
    stored = {
        row[0]: (row[1], row[2:])
        for row in Container.objects.filter(host_id=host_id)
        .order_by()
        .values_list("container_id", "stack_id", *FIELDS)
    }
    stacks = {stack.name: stack for stack in Stack.objects.filter(host_id=host_id).order_by()}
    members: dict[str, list[ContainerEntry]] = {}
    for entry in entries:
        if entry.stack:
            members.setdefault(entry.stack, []).append(entry)
    gone = {
        name: stack
        for name, stack in stacks.items()
        if not (name in members or stack.is_managed or stack.is_deploying)
    }
    new = members.keys() - stacks.keys()
    if new or gone:
        lock_series({*new, *gone})
    if new:
        stacks |= {stack.name: stack for stack in _add_stacks(host_id, new, members, now)}
    _write_containers(host_id, entries, stored, stacks, now)
    if gone:
        Stack.objects.filter(pk__in=[stack.pk for stack in gone.values()]).delete()
        drop_orphaned_series(gone)
    kept = [stack for name, stack in stacks.items() if name not in gone]
    _keep_states([stack for stack in kept if stack.name not in new], members, now)
    return Summary(
        container_counts(entry.state for entry in entries), stack_counts(stack.state for stack in kept)
    )


def _add_stacks(
    host_id: int, names: set[str], members: dict[str, list[ContainerEntry]], now: datetime.datetime
) -> list[Stack]:
    return Stack.objects.bulk_create(
        [
            Stack(
                host_id=host_id,
                name=name,
                state=stack_state(members[name], is_deploying=False, has_failed_deploy=False),
                state_changed_at=now,
            )
            for name in sorted(names)
        ]
    )


def _keep_states(
    stacks: Sequence[Stack], members: dict[str, list[ContainerEntry]], now: datetime.datetime
) -> None:
    changed = []
    for stack in stacks:
        state = stack_state(
            members.get(stack.name, ()),
            is_deploying=stack.is_deploying,
            has_failed_deploy=stack.has_failed_deploy,
        )
        if state != stack.state:
            stack.state, stack.state_changed_at = state, now
            changed.append(stack)
    if changed:
        Stack.objects.bulk_update(changed, ["state", "state_changed_at"])


def _write_containers(
    host_id: int,
    entries: Sequence[ContainerEntry],
    stored: dict[str, tuple[int | None, Facts]],
    stacks: dict[str, Stack],
    now: datetime.datetime,
) -> None:
    changed = []
    for entry in entries:
        stack_id = stacks[entry.stack].pk if entry.stack else None
        facts = _facts(entry)
        if stored.pop(entry.id, None) != (stack_id, facts):
            changed.append(
                Container(
                    host_id=host_id,
                    container_id=entry.id,
                    stack_id=stack_id,
                    changed_at=now,
                    **dict(zip(FIELDS, facts, strict=True)),
                )
            )
    if changed:
        Container.objects.bulk_create(
            changed,
            update_conflicts=True,
            unique_fields=["host", "container_id"],
            update_fields=["stack", "changed_at", *FIELDS],
        )
    if stored:
        Container.objects.filter(host_id=host_id, container_id__in=list(stored)).delete()


def _facts(entry: ContainerEntry) -> Facts:
    return (
        entry.name,
        entry.image,
        entry.service or "",
        entry.state,
        "" if entry.health in (None, "none") else entry.health or "",
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
