"""What the pages show of hosts and containers: rows with the states that count now."""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from dockmesh.fleet.histograms import RTT_BUCKETS
from dockmesh.fleet.models import Container, EnrollmentToken, Host, Stack
from dockmesh.fleet.selectors import counts_by_state, status_of_host
from dockmesh.fleet.services.agent_updates import is_behind
from dockmesh.fleet.states import ContainerState, HostStatus, StackState, shown_state

Parts = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class HostRow:
    """A host with its status and its counts by state, those that are not 0."""

    host: Host
    status: HostStatus
    containers: Parts
    stacks: Parts

    @property
    def container_total(self) -> int:
        return sum(count for _, count in self.containers)

    @property
    def stack_total(self) -> int:
        return sum(count for _, count in self.stacks)

    @property
    def running(self) -> int:
        return dict(self.containers).get(ContainerState.RUNNING.value, 0)

    @property
    def is_agent_behind(self) -> bool:
        """Whether its agent is not what this server hands out."""
        return is_behind(self.host)

    @property
    def stacks_not_well(self) -> Parts:
        """The stacks that are anything but running."""
        return tuple(part for part in self.stacks if part[0] != StackState.RUNNING)


@dataclass(frozen=True)
class StackRow:
    """A stack in the state that it is shown in."""

    stack: Stack
    state: str


@dataclass(frozen=True)
class ContainerRow:
    """A container in the state that it is shown in."""

    container: Container
    state: str

    @property
    def is_exited(self) -> bool:
        return self.state == ContainerState.EXITED

    @property
    def health(self) -> str:
        """Only of what runs: Docker calls everything that is stopped unhealthy."""
        return self.container.health if self.state == ContainerState.RUNNING else ""


def host_rows(hosts: Iterable[Host], before: datetime.datetime) -> list[HostRow]:
    """Hosts as they are now; their heartbeat states have been read along. Here and below `before` is `offline_before`."""
    return [_host_row(host, before) for host in hosts]


def _host_row(host: Host, before: datetime.datetime) -> HostRow:
    status = status_of_host(host.heartbeat_state, before)
    offline = status is HostStatus.OFFLINE
    containers = counts_by_state(host.container_counts, ContainerState, is_unknown=offline)
    stacks = counts_by_state(host.stack_counts, StackState, is_unknown=offline)
    return HostRow(host, status, _nonzero(containers), _nonzero(stacks))


def container_rows(containers: Iterable[Container], before: datetime.datetime) -> list[ContainerRow]:
    """Containers as they are shown now; their hosts' heartbeat states have been read along."""
    return [
        ContainerRow(
            each,
            shown_state(each.state, is_offline=each.host.heartbeat_state.last_seen_at < before),
        )
        for each in containers
    ]


def stack_rows(host: Host, before: datetime.datetime) -> list[StackRow]:
    """The host's stacks by name; one query."""
    offline = host.heartbeat_state.last_seen_at < before
    return [
        StackRow(stack, shown_state(stack.state, is_offline=offline))
        for stack in Stack.objects.filter(host=host).order_by("name")
    ]


def round_trips(host: Host) -> tuple[tuple[float, ...], list[int]]:
    """(upper bounds in seconds, cumulative counts with +Inf last)."""
    return RTT_BUCKETS, [int(count) for count in host.heartbeat_state.rtt_counts.split(",")]


def is_reporting(token: EnrollmentToken) -> bool:
    """Whether the host that the token let in has been heard since; its heartbeat state has been read along."""
    if token.host is None or token.used_at is None:
        return False
    heard_at = token.host.heartbeat_state.heard_at
    return heard_at is not None and (not token.is_renewal or heard_at > token.used_at)


def _nonzero(counts: dict[str, int]) -> Parts:
    return tuple((state, count) for state, count in counts.items() if count)
