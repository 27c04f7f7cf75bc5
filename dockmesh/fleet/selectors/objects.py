"""Reading each host, stack and container for /metrics, where a host's version is new."""

from collections.abc import Collection, Iterator, Mapping
from functools import cache

import msgspec
from django.db import connection

from dockmesh.fleet.selectors import chosen, milliseconds


class StackObject(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """A stack by its stored state."""

    name: str
    is_managed: bool
    state: str


class ContainerObject(msgspec.Struct, frozen=True, array_like=True, gc=False):
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
    is_oneoff: bool | int = False


class ImageObject(msgspec.Struct, frozen=True, array_like=True, order=True):
    """What the registry has of an image's name; None where it could not be asked. The time is in Unix milliseconds."""

    image: str
    is_update_available: bool | int | None
    checked_milliseconds: int


class HostObject(msgspec.Struct, frozen=True):
    """A host with what it runs; whether it is offline is the reader's to know."""

    id: int
    name: str
    labels: Mapping[str, str]
    cpus: int
    memory_bytes: int
    is_degraded: bool
    stacks: list[StackObject]
    containers: list[ContainerObject]
    images: list[ImageObject] = []


_read_stacks = msgspec.json.Decoder(list[StackObject]).decode
_read_images = msgspec.json.Decoder(list[ImageObject]).decode
_read_containers = msgspec.json.Decoder(list[ContainerObject]).decode


def host_objects(host_ids: Collection[int]) -> Iterator[HostObject]:
    """These hosts in the order of their ids, their stacks and containers in no order; one query.

    One at a time: of a large fleet all of them would be many objects.
    """
    return (
        HostObject(
            host_id,
            name,
            # A driver without Django's converters gives JSON as its text.
            msgspec.json.decode(labels) if isinstance(labels, str) else labels,
            cpus,
            memory_bytes,
            bool(is_degraded),
            _read_stacks(stacks),
            _read_containers(containers),
            _read_images(images),
        )
        for host_id, name, labels, cpus, memory_bytes, is_degraded, stacks, containers, images in chosen(
            _statement(connection.vendor), host_ids, key="h.id"
        )
    )


@cache
def _statement(vendor: str) -> str:
    """What a host runs comes as JSON texts: reading these costs less than a row for each thing."""
    array, rows, true = {
        "postgresql": ("json_build_array", "COALESCE(json_agg({})::text, '[]')", "s.is_managed"),
        "sqlite": (
            "json_array",
            "json_group_array({})",
            "json(CASE WHEN s.is_managed THEN 'true' ELSE 'false' END)",
        ),
    }[vendor]
    stacks = rows.format(f"{array}(s.name, {true}, s.state)")
    images = rows.format(f"{array}(i.image, i.is_update_available, {milliseconds('i.checked_at')})")
    containers = rows.format(
        f"{array}(COALESCE(s.name, ''), c.service, c.name, c.container_id, c.image, c.image_digest, c.state, c.health,"
        f" c.exit_code, {milliseconds('c.created_at')}, {milliseconds('c.started_at')}, COALESCE(k.restarts, 0),"
        " COALESCE(k.successes, 0), COALESCE(k.errors, 0), COALESCE(k.oom_kills, 0), c.is_oneoff)"
    )
    return (
        "SELECT h.id, h.name, h.labels, h.cpus, h.memory_bytes, p.is_degraded,"  # noqa: S608 (constants)
        f" (SELECT {stacks} FROM fleet_stack s WHERE s.host_id = h.id),"
        f" (SELECT {containers} FROM fleet_container c LEFT JOIN fleet_stack s ON s.id = c.stack_id"
        " LEFT JOIN fleet_containercounts k ON k.host_id = c.host_id AND k.name = c.name WHERE c.host_id = h.id),"
        f" (SELECT {images} FROM fleet_imagecheck i WHERE i.host_id = h.id)"
        " FROM fleet_host h JOIN fleet_hostpulse p ON p.host_id = h.id"
    )
