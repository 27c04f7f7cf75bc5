"""Reading the fleet for those who watch it: what alert rules look at. Nothing here changes anything."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet, Value
from django.db.models.functions import Coalesce

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
    """A stack by its stored state, and since when; whether its host is offline is the reader's to know."""

    id: int
    name: str
    host_id: int
    state: str
    has_failed_deploy: bool
    state_changed_at: datetime.datetime


@dataclass(frozen=True)
class ContainerFact:
    """A container as the last inventory of its host had it."""

    container_id: str
    name: str
    host_id: int
    stack_id: int | None
    stack: str
    service: str
    state: str
    health: str
    exit_code: int
    is_oom_killed: bool
    restart_count: int
    restart_policy: str
    is_oneoff: bool
    stop_signal: str
    error: str
    finished_at: datetime.datetime | None
    changed_at: datetime.datetime
    id: int = 0


def host_facts(now: datetime.datetime) -> dict[int, HostFact]:
    """Every host by its id; two queries."""
    limit = offline_before(now)
    rows = (
        Host.objects.exclude(heartbeat_state=None)
        .order_by("id")
        .values_list(
            "id",
            "name",
            "labels",
            "docker_error",
            "enrolled_at",
            "heartbeat_state__last_seen_at",
            "heartbeat_state__sequence",
            "heartbeat_state__is_degraded",
        )
    )
    facts = {}
    for pk, name, labels, docker_error, enrolled_at, seen_at, sequence, is_degraded in rows:
        status = status_of(seen_at, is_degraded, limit)
        heard_at = seen_at if sequence >= 0 else None
        facts[pk] = HostFact(pk, name, labels, status, heard_at, enrolled_at, docker_error)
    return facts


def host_fact(host: Host, status: HostStatus) -> HostFact:
    """The same of one host that has been read, with its heartbeat state."""
    heard_at = host.heartbeat_state.heard_at
    return HostFact(host.pk, host.name, host.labels, status, heard_at, host.enrolled_at, host.docker_error)


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
    return container_facts(rows.order_by("id"))


def containers_that_restarted() -> list[ContainerFact]:
    """Containers that Docker has restarted at least once; one query."""
    return container_facts(Container.objects.filter(restart_count__gt=0).order_by("id"))


def _stacks(**conditions: Any) -> list[StackFact]:
    rows = Stack.objects.filter(**conditions).order_by("id")
    return [
        StackFact(*row)
        for row in rows.values_list("id", "name", "host_id", "state", "has_failed_deploy", "state_changed_at")
    ]


def container_facts(rows: QuerySet[Container]) -> list[ContainerFact]:
    """These containers in their order; one query."""
    return [
        ContainerFact(*row)
        for row in rows.values_list(
            "container_id",
            "name",
            "host_id",
            "stack_id",
            Coalesce("stack__name", Value("")),
            "service",
            "state",
            "health",
            "exit_code",
            "is_oom_killed",
            "restart_count",
            "restart_policy",
            "is_oneoff",
            "stop_signal",
            "error",
            "finished_at",
            "changed_at",
            "id",
        )
    ]
