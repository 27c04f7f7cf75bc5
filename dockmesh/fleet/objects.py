"""Reading each host, stack and container for /metrics: plain rows, read where a host's version is new."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import msgspec

from dockmesh.fleet.selectors import chosen, milliseconds


class StackObject(NamedTuple):
    """A stack by its stored state."""

    name: str
    is_managed: bool
    state: str


class ContainerObject(NamedTuple):
    """A container as the last inventory had it, and what was counted of its name.

    Texts are empty, and a time is None, where there is none. Times are Unix times in milliseconds.
    """

    stack: str
    service: str
    name: str
    id: str
    image: str
    image_digest: str
    state: str
    health: str
    exit_code: int
    created_milliseconds: int | None
    started_milliseconds: int | None
    restarts: int = 0
    successes: int = 0
    errors: int = 0
    oom_kills: int = 0


@dataclass(frozen=True, slots=True)
class HostObject:
    """A host with what it runs; whether it is offline is the reader's to know."""

    id: int
    name: str
    labels: Mapping[str, str]
    cpus: int
    memory_bytes: int
    is_degraded: bool
    stacks: list[StackObject] = field(default_factory=list)
    containers: list[ContainerObject] = field(default_factory=list)


_HOSTS = (
    "SELECT h.id, h.name, h.labels, h.cpus, h.memory_bytes, p.is_degraded"
    " FROM fleet_host h JOIN fleet_hostpulse p ON p.host_id = h.id"
)
_STACKS = "SELECT host_id, name, is_managed, state FROM fleet_stack"
_CONTAINERS = (
    "SELECT c.host_id, COALESCE(s.name, ''), c.service, c.name, c.container_id, c.image, c.image_digest, c.state,"
    " c.health, c.exit_code, {created}, {started}, COALESCE(k.restarts, 0), COALESCE(k.successes, 0),"
    " COALESCE(k.errors, 0), COALESCE(k.oom_kills, 0)"
    " FROM fleet_container c LEFT JOIN fleet_stack s ON s.id = c.stack_id"
    " LEFT JOIN fleet_containercounts k ON k.host_id = c.host_id AND k.name = c.name"
)


def host_objects(host_ids: Collection[int]) -> list[HostObject]:
    """These hosts in the order of their ids, their stacks and containers in no order; three queries."""
    hosts = {}
    for host_id, name, labels, cpus, memory_bytes, is_degraded in chosen(_HOSTS, host_ids, key="h.id"):
        # A driver without Django's converters gives JSON as its text.
        known = msgspec.json.decode(labels) if isinstance(labels, str) else labels
        hosts[host_id] = HostObject(host_id, name, known, cpus, memory_bytes, bool(is_degraded))
    for host_id, rows in groupby(chosen(_STACKS, host_ids, key="host_id"), itemgetter(0)):
        hosts[host_id].stacks.extend(StackObject(name, bool(is_it), state) for _, name, is_it, state in rows)
    containers = _CONTAINERS.format(
        created=milliseconds("c.created_at"), started=milliseconds("c.started_at")
    )
    for host_id, rows in groupby(chosen(containers, host_ids, key="c.host_id"), itemgetter(0)):
        hosts[host_id].containers.extend(ContainerObject._make(row[1:]) for row in rows)
    return list(hosts.values())
