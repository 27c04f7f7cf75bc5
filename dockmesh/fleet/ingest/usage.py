"""Taking what a host and its containers use: the latest of each host is one row, written with its heartbeat.

The containers' lines for /metrics are made here, when the heartbeat comes, and kept compressed. At a scrape of 1,000 hosts
with 100 containers each every one of 1,200,000 values is new: to write and compress their lines takes 0.35 and 0.2 ms for
a host, half a second together at each scrape of each Prometheus, while the whole scrape of what lies ready takes 54 ms. In a
heartbeat the same half a millisecond comes once in 15 s for a host. It costs a row of 15 kB where packed numbers would
have 9 kB. What there is but once for a host stays numbers: a thousand lines are soon written.

How a line looks is not this room's to know: `metrics` registers what makes them. What the pages show is kept beside them as
numbers (`fleet.figures`), with how busy each was since the time before.
"""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import msgspec
from django.db import connection
from msgspec import Struct

from dockmesh.fleet import sql
from dockmesh.fleet.figures import Figures, busy, figures_of, read_figures, seconds_between, write_figures
from dockmesh.fleet.ingest.documents import ContainerUsage, DiskUsage, MachineUsage, Usage
from dockmesh.fleet.selectors import milliseconds


class Named(Struct, frozen=True, array_like=True, gc=False):
    """A container that runs, by its names; `stack` and `service` are empty where there is none."""

    id: str
    stack: str
    service: str
    name: str
    created_milliseconds: int | None
    key: int
    """Of its row."""


Render = Callable[[str, Sequence[Named], Mapping[str, ContainerUsage]], bytes]
"""From a host's name, those of its containers that run, and what each uses by its id, to what `HostUsage` keeps."""

_renders: list[Render] = []


def register_render(render: Render) -> None:
    """Have the containers' lines made by this one."""
    _renders[:] = [render]


@dataclass(frozen=True, slots=True)
class Used:
    """What a host told, and the version of its heartbeat state from now on."""

    host_id: int
    version: int
    sent_at: datetime.datetime
    usage: Usage


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a host when it tells: the names, and what it told before."""

    name: str
    containers: Sequence[Named]
    sent_at: datetime.datetime | None
    machine: MachineUsage
    figures: Mapping[int, Figures]


_ROWS = sql.ManyRows(
    "fleet_hostusage",
    key={"host_id": "bigint"},
    values={
        "measured_at": "timestamptz",
        "version": "bigint",
        "sent_at": "timestamptz",
        "machine": "text",
        "cpu": "double precision",
        "figures": "text",
        "containers": "bytea",
    },
)
_DISKS = sql.ManyRows(
    "fleet_hostusage", key={"host_id": "bigint"}, values={"disk": "text", "disk_at": "timestamptz"}
)

# To write the twelve lines of so many bytes of names takes about as long as to write a row.
_BYTES_OF_A_ROW = 2000

_encode = msgspec.json.Encoder().encode
_read_named = msgspec.json.Decoder(list[Named]).decode
_read_machine = msgspec.json.Decoder(MachineUsage).decode
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def write_usage(told: Sequence[Used], now: datetime.datetime) -> Mapping[int, int]:
    """Write what these hosts use; the caller has locked them, and written their inventories.

    Two statements, whatever the number of hosts, and one more where Docker's disk was measured anew. Returns what each
    host cost, in rows as the agents' budget counts them: long names make long lines.
    """
    if not told:
        return {}
    read = sql.fetch_among(_names(connection.vendor), [each.host_id for each in told])
    known = {host_id: _known(*rest) for host_id, *rest in read}
    _ROWS.upsert([_row(each, known[each.host_id], now) for each in told])
    disks = {
        each.host_id: _encode(each.usage.disk).decode()
        for each in told
        if isinstance(each.usage.disk, DiskUsage)
    }
    _DISKS.update([(host_id, disk, now) for host_id, disk in disks.items()])
    return {
        host_id: 1 + (len(containers) + len(disks.get(host_id, ""))) // _BYTES_OF_A_ROW
        for host_id, _, containers, *_ in read
    }


def _known(name: str, containers: str, sent: int | None, machine: str | None, figures: str | None) -> _Known:
    return _Known(
        name,
        _read_named(containers),
        None if sent is None else _EPOCH + datetime.timedelta(milliseconds=sent),
        _read_machine(machine) if machine else MachineUsage(),
        {each.key: each for each in read_figures(figures or "[]")},
    )


def _row(told: Used, known: _Known, now: datetime.datetime) -> sql.Row:
    """Of `_ROWS`."""
    (render,) = _renders
    used = {each.id: each for each in told.usage.containers}
    sent_at = sql.kept_moment(told.sent_at)
    seconds = seconds_between(known.sent_at, sent_at)
    figures = [
        figures_of(each.key, used[each.id], known.figures.get(each.key), seconds)
        for each in known.containers
        if each.id in used
    ]
    return (
        told.host_id,
        now,
        told.version,
        sent_at,
        _encode(told.usage.host).decode(),
        busy(told.usage.host.cpu_seconds, known.machine.cpu_seconds, seconds),
        write_figures(figures).decode(),
        render(known.name, known.containers, used),
    )


@cache
def _names(vendor: str) -> str:
    """Read once the hosts are locked, since what a statement that waited for a lock has read beside it may be old."""
    array, rows = {
        "postgresql": ("json_build_array", "COALESCE(json_agg({})::text, '[]')"),
        "sqlite": ("json_array", "json_group_array({})"),
    }[vendor]
    containers = rows.format(
        f"{array}(c.container_id, COALESCE(s.name, ''), c.service, c.name, {milliseconds('c.created_at')}, c.id)"
    )
    return (
        f"SELECT h.id, h.name, (SELECT {containers} FROM fleet_container c"  # noqa: S608 (constants)
        " LEFT JOIN fleet_stack s ON s.id = c.stack_id"
        " WHERE c.host_id = h.id AND c.state IN ('running', 'paused')),"
        f" {milliseconds('u.sent_at')}, u.machine, u.figures"
        " FROM fleet_host h LEFT JOIN fleet_hostusage u ON u.host_id = h.id WHERE h.id IN {keys}"
    )
