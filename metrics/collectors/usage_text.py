"""The lines of what hosts and their containers use.

No database here. ``render`` is called with each heartbeat, ``usage_fragments`` at each scrape; ``metrics.exposition``
says how they share the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from metrics import families as f
from metrics.collectors.base import Found
from metrics.collectors.objects_text import Escaped, one_of_each
from metrics.exposition import Family, Fragment, FragmentFormat, escape, number

if TYPE_CHECKING:
    from dockmesh.fleet.ingest.documents import ContainerUsage, DiskUsage, MachineUsage
    from dockmesh.fleet.ingest.usage import Named
    from dockmesh.fleet.selectors.usage import UsageOfHost

# Of each family of containers the lines: the labels after the names, and the value.
_OF_CONTAINERS: Mapping[Family, Sequence[tuple[str, Callable[[ContainerUsage], float | None]]]] = {
    f.CONTAINER_CPU: (
        (',mode="user"', attrgetter("cpu_user_seconds")),
        (',mode="system"', attrgetter("cpu_system_seconds")),
    ),
    f.CONTAINER_CPU_THROTTLED: (("", attrgetter("cpu_throttled_seconds")),),
    f.CONTAINER_MEMORY: (("", attrgetter("memory_working_set_bytes")),),
    f.CONTAINER_MEMORY_LIMIT: (("", attrgetter("memory_limit_bytes")),),
    f.CONTAINER_RECEIVED: (("", attrgetter("network_receive_bytes")),),
    f.CONTAINER_TRANSMITTED: (("", attrgetter("network_transmit_bytes")),),
    f.CONTAINER_RECEIVE_ERRORS: (("", attrgetter("network_receive_errors")),),
    f.CONTAINER_TRANSMIT_ERRORS: (("", attrgetter("network_transmit_errors")),),
    f.CONTAINER_BLOCK_READ: (("", attrgetter("block_read_bytes")),),
    f.CONTAINER_BLOCK_WRITTEN: (("", attrgetter("block_written_bytes")),),
    f.CONTAINER_PIDS: (("", attrgetter("pids")),),
}
_OF_MACHINES: Mapping[Family, Callable[[MachineUsage], float | None]] = {
    f.HOST_CPU: attrgetter("cpu_seconds"),
    f.HOST_MEMORY_AVAILABLE: attrgetter("memory_available_bytes"),
    f.HOST_LOAD1: attrgetter("load1"),
    f.HOST_DOCKER_ROOT: attrgetter("docker_root_bytes"),
    f.HOST_DOCKER_ROOT_FREE: attrgetter("docker_root_free_bytes"),
}
_DISK_KINDS = ("images", "containers", "volumes", "build_cache")

_OF_HOSTS = (*_OF_MACHINES, f.HOST_DOCKER_DISK, f.HOST_DOCKER_RECLAIMABLE, f.VOLUME_SIZE)

FAMILIES = (*_OF_CONTAINERS, *_OF_HOSTS)

_format = FragmentFormat(tuple(_OF_CONTAINERS))


def render(host: str, containers: Sequence[Named], used: Mapping[str, ContainerUsage]) -> bytes:
    """The lines of a host's containers, as `usage_fragments` takes them; `used` is by their ids."""
    escaped = Escaped()
    stem = f'{{host="{escape(host)}"'
    running = [
        (
            f'{stem},stack="{escaped[each.stack]}",service="{escaped[each.service]}"'
            f',container="{escape(each.name)}"',
            used[each.id],
        )
        for each in one_of_each(each for each in containers if each.id in used)
    ]
    return _format.pack([_lines(family, running) for family in _OF_CONTAINERS])


def _lines(family: Family, running: Sequence[tuple[str, ContainerUsage]]) -> bytes:
    name, lines = family.name, _OF_CONTAINERS[family]
    return "".join(
        [
            f"{name}{labels}{more}}} {value!r}\n"
            for labels, used in running
            for more, get in lines
            if (value := get(used)) is not None
        ]
    ).encode()


def usage_fragments(hosts: Iterable[UsageOfHost]) -> Found:
    """The fragments of each family."""
    stored: list[list[Fragment]] = [[] for _ in _OF_CONTAINERS]
    lines: dict[Family, list[str]] = {family: [] for family in _OF_HOSTS}
    for host in hosts:
        for found, fragment in zip(stored, _format.unpack(host.containers), strict=True):
            if fragment is not None:
                found.append(fragment)
        stem = f'{{host="{escape(host.host_name)}"'
        for family, get in _OF_MACHINES.items():
            _add(lines, family, stem, get(host.machine))
        if host.disk is not None:
            _add_disk(lines, stem, host.disk)
    whole = {family: [Fragment.of("".join(found))] for family, found in lines.items()}
    return {**dict(zip(_OF_CONTAINERS, stored, strict=True)), **whole}


def _add(lines: Mapping[Family, list[str]], family: Family, labels: str, value: float | None) -> None:
    if value is not None:
        lines[family].append(f"{family.name}{labels}}} {number(value)}\n")


def _add_disk(lines: Mapping[Family, list[str]], stem: str, disk: DiskUsage) -> None:
    for kind in _DISK_KINDS:
        size, reclaimable = getattr(disk, kind)
        _add(lines, f.HOST_DOCKER_DISK, f'{stem},kind="{kind}"', size)
        _add(lines, f.HOST_DOCKER_RECLAIMABLE, f'{stem},kind="{kind}"', reclaimable)
    for volume, size in sorted(disk.each_volume.items()) if disk.each_volume else ():
        _add(lines, f.VOLUME_SIZE, f'{stem},volume="{escape(volume)}"', size)
