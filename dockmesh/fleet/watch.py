"""Reading the fleet for those who watch it: what alert rules look at. Nothing here changes anything."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from dockmesh.fleet.listening import offline_before
from dockmesh.fleet.models import Container, Host, Stack
from dockmesh.fleet.selectors import status_of
from dockmesh.fleet.states import HostStatus, StackState


@dataclass(frozen=True)
class HostFact:
    """A host as it is at the moment of the reading. `last_seen_at` is None before its first heartbeat."""

    id: int
    name: str
    labels: dict[str, str]
    status: HostStatus
    last_seen_at: datetime.datetime | None
    enrolled_at: datetime.datetime
    docker_error: str


@dataclass(frozen=True)
class StackFact:
    """A stack by its stored state; whether its host is offline is the reader's to know."""

    id: int
    name: str
    host_id: int
    state: str
    has_failed_deploy: bool


@dataclass(frozen=True)
class ContainerFact:
    """A container as the last inventory of its host had it."""

    container_id: str
    name: str
    host_id: int
    stack: str
    state: str
    health: str
    exit_code: int
    restart_count: int


def host_facts(now: datetime.datetime) -> dict[int, HostFact]:
    """Every host by its id; two queries."""
    limit = offline_before(now)
    rows = (
        Host.objects.exclude(pulse=None)
        .order_by("id")
        .values_list(
            "id",
            "name",
            "labels",
            "docker_error",
            "enrolled_at",
            "pulse__last_seen_at",
            "pulse__sequence",
            "pulse__is_degraded",
        )
    )
    facts = {}
    for pk, name, labels, docker_error, enrolled_at, seen_at, sequence, is_degraded in rows:
        status = status_of(seen_at, is_degraded, limit)
        heard_at = seen_at if sequence >= 0 else None
        facts[pk] = HostFact(pk, name, labels, status, heard_at, enrolled_at, docker_error)
    return facts


def stacks_in_error() -> list[StackFact]:
    """Stacks whose stored state is error; one query."""
    return _stacks(state=StackState.ERROR)


def stacks_with_failed_deploy() -> list[StackFact]:
    """Stacks whose last deploy failed; one query."""
    return _stacks(has_failed_deploy=True)


def containers_in(*, states: Sequence[str], healths: Sequence[str]) -> list[ContainerFact]:
    """Containers in one of these states, and of one of these healths where any is given; one query."""
    rows = Container.objects.all()
    if states:
        rows = rows.filter(state__in=states)
    if healths:
        rows = rows.filter(health__in=healths)
    return _containers(rows.order_by("id"))


def containers_that_restarted() -> list[ContainerFact]:
    """Containers that Docker has restarted at least once; one query."""
    return _containers(Container.objects.filter(restart_count__gt=0).order_by("id"))


def _stacks(**conditions: Any) -> list[StackFact]:
    rows = Stack.objects.filter(**conditions).order_by("id")
    return [
        StackFact(*row) for row in rows.values_list("id", "name", "host_id", "state", "has_failed_deploy")
    ]


def _containers(rows: QuerySet[Container]) -> list[ContainerFact]:
    return [
        ContainerFact(pk, name, host_id, stack or "", state, health, exit_code, restarts)
        for pk, name, host_id, stack, state, health, exit_code, restarts in rows.values_list(
            "container_id", "name", "host_id", "stack__name", "state", "health", "exit_code", "restart_count"
        )
    ]
