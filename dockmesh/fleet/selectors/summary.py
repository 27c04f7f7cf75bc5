"""The fleet at a glance: what the overview shows. Reads the hosts' summaries, never counts rows."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from dockmesh.core import clock
from dockmesh.fleet.listening import offline_before
from dockmesh.fleet.models import HeartbeatState, Stack
from dockmesh.fleet.selectors import counts_by_state, status_of
from dockmesh.fleet.states import ContainerState, HostStatus, HostWorst, StackState

Counts = tuple[tuple[str, int], ...]

FAILING = (ContainerState.RESTARTING, ContainerState.DEAD)


@dataclass(frozen=True)
class HostMark:
    """One host in the strip. `last_seen_at` is None before its first heartbeat."""

    id: int
    name: str
    status: HostStatus
    last_seen_at: datetime.datetime | None
    docker_error: str
    labels: Mapping[str, str] = field(default_factory=dict)
    stacks_in_error: int = 0
    containers_failing: int = 0
    """Restarting or dead. Both by what its last inventory had; 0 where that is not known to hold."""

    @property
    def worst(self) -> HostWorst | None:
        """The worst that is on it; None where nothing is known of it yet."""
        if self.last_seen_at is None:
            return None
        if self.status is not HostStatus.ONLINE:
            return HostWorst(self.status.value)
        if self.stacks_in_error:
            return HostWorst.ERROR
        return HostWorst.FAILING if self.containers_failing else HostWorst.WELL


@dataclass(frozen=True)
class FleetSummary:
    """Counts are (state, count) for every state, in the states' order. `hosts` are sorted by name."""

    hosts: tuple[HostMark, ...]
    host_counts: Counts
    stack_counts: Counts
    container_counts: Counts


@dataclass(frozen=True)
class StackMark:
    """A stack and since when it is in its state."""

    id: int
    name: str
    host_id: int
    host_name: str
    state_changed_at: datetime.datetime


def fleet_summary(now: datetime.datetime) -> FleetSummary:
    """Everything about all hosts, in two queries. What an offline host has counts as unknown."""
    rows = HeartbeatState.objects.order_by("host__name").values_list(
        "host_id",
        "host__name",
        "last_seen_at",
        "sequence",
        "is_degraded",
        "host__docker_error",
        "host__stack_counts",
        "host__container_counts",
        "host__labels",
    )
    before = offline_before(now)
    marks = []
    stacks = dict.fromkeys(StackState, 0)
    containers = dict.fromkeys(ContainerState, 0)
    for host_id, name, seen_at, sequence, is_degraded, error, stack_text, container_text, labels in rows:
        status = status_of(seen_at, is_degraded, before)
        offline = status is HostStatus.OFFLINE
        own_stacks = counts_by_state(stack_text, StackState, is_unknown=offline)
        heard_at = seen_at if sequence >= 0 else None
        broken = own_stacks.get(StackState.ERROR, 0)
        own_containers = counts_by_state(container_text, ContainerState, is_unknown=offline)
        failing = sum(own_containers.get(state, 0) for state in FAILING)
        marks.append(HostMark(host_id, name, status, heard_at, error, labels, broken, failing))
        for state, count in own_stacks.items():
            stacks[StackState(state)] += count
        for state, count in own_containers.items():
            containers[ContainerState(state)] += count
    by_status = Counter(mark.status for mark in marks)
    return FleetSummary(
        hosts=tuple(marks),
        host_counts=tuple((status.value, by_status[status]) for status in HostStatus),
        stack_counts=tuple((state.value, count) for state, count in stacks.items()),
        container_counts=tuple((state.value, count) for state, count in containers.items()),
    )


def host_counts() -> dict[str, int]:
    """The fleet's hosts by status."""
    return dict(fleet_summary(clock.now()).host_counts)


def stack_counts() -> dict[str, int]:
    """The fleet's stacks by the state that they are shown in."""
    return dict(fleet_summary(clock.now()).stack_counts)


def container_counts() -> dict[str, int]:
    """The fleet's containers by the state that they are shown in."""
    return dict(fleet_summary(clock.now()).container_counts)


def stacks_in_error(now: datetime.datetime, *, most: int) -> list[StackMark]:
    """The stacks in error on hosts that are heard, the newest trouble first; two queries."""
    rows = (
        Stack.objects.filter(
            state=StackState.ERROR, host__heartbeat_state__last_seen_at__gte=offline_before(now)
        )
        .order_by("-state_changed_at", "-id")
        .values_list("id", "name", "host_id", "host__name", "state_changed_at")[:most]
    )
    return [StackMark(*row) for row in rows]
