"""What the pages show of hosts and containers: rows with the states that count now."""

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import nlargest
from operator import attrgetter
from types import MappingProxyType

from dockmesh.fleet.figures import Figures
from dockmesh.fleet.histograms import RTT_BUCKETS
from dockmesh.fleet.ingest.documents import DiskUsage
from dockmesh.fleet.models import Container, EnrollmentToken, Host, Stack
from dockmesh.fleet.selectors import counts_by_state, status_of_host
from dockmesh.fleet.services.agent_updates import is_behind
from dockmesh.fleet.states import ContainerState, HostStatus, StackState, shown_state

# The host's page names so many containers that use the most.
TOP = 10
USING = (ContainerState.RUNNING, ContainerState.PAUSED)
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
    figures: Figures | None = None
    """What it uses; None where it does not run, or nobody knows."""

    @property
    def may_use(self) -> bool:
        """Whether it uses anything, as far as is known."""
        return self.state in (*USING, ContainerState.UNKNOWN)

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


def container_rows(
    containers: Iterable[Container],
    before: datetime.datetime,
    used: Mapping[int, Figures] = MappingProxyType({}),
) -> list[ContainerRow]:
    """Containers as they are shown now; their hosts' heartbeat states have been read along. `used` has what those that run
    use, by their ids."""
    return [
        ContainerRow(
            each,
            shown_state(each.state, is_offline=each.host.heartbeat_state.last_seen_at < before),
            used.get(each.pk) if each.state in USING else None,
        )
        for each in containers
    ]


@dataclass(frozen=True)
class Top:
    """The containers of a host that use the most of one thing."""

    name: str
    rows: list[ContainerRow]


def tops(used: Mapping[int, Figures]) -> tuple[Top, Top]:
    """By CPU and by memory, the most first; one query. What is not known is in neither."""
    by_cpu = nlargest(TOP, [each for each in used.values() if each.cpu is not None], attrgetter("cpu"))
    by_memory = nlargest(
        TOP, [each for each in used.values() if each.memory_bytes is not None], attrgetter("memory_bytes")
    )
    chosen = {each.key for each in (*by_cpu, *by_memory)}
    found = Container.objects.filter(pk__in=chosen, state__in=USING).in_bulk()

    def rows(most: list[Figures]) -> list[ContainerRow]:
        return [
            ContainerRow(found[each.key], found[each.key].state, each) for each in most if each.key in found
        ]

    return Top("CPU", rows(by_cpu)), Top("memory", rows(by_memory))


def disk_rows(disk: DiskUsage) -> list[tuple[str, int | None, int | None]]:
    """(what Docker keeps, its bytes, those that can be had back)."""
    return [
        ("Images", *disk.images),
        ("Containers", *disk.containers),
        ("Volumes", *disk.volumes),
        ("Build cache", *disk.build_cache),
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
