"""Reading what hosts and their containers use, for /metrics and for the pages."""

import datetime
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import msgspec
from django.conf import settings
from django.db import connection
from django.db.models import QuerySet

from dockmesh.fleet import sql
from dockmesh.fleet.figures import Figures, read_figures
from dockmesh.fleet.ingest.documents import DiskUsage, MachineUsage
from dockmesh.fleet.listening import offline_before
from dockmesh.fleet.models import Container, HostUsage
from dockmesh.fleet.selectors import milliseconds

# Docker's disk is measured every few minutes. What was not for so long is not known any more.
DISK_KEPT = datetime.timedelta(hours=1)
# Agents measure no more often than every five seconds, however often they are heard.
LEAST_KEPT_SECONDS = 20

_read_machine = msgspec.json.Decoder(MachineUsage).decode
_read_disk = msgspec.json.Decoder(DiskUsage).decode


@dataclass(frozen=True, slots=True)
class UsageOfHost:
    """What a host that is online uses."""

    host_name: str
    machine: MachineUsage
    containers: bytes
    """As it was made when the heartbeat came; empty where a name in it may have changed since."""
    disk: DiskUsage | None


def host_usage(now: datetime.datetime) -> Iterator[UsageOfHost]:
    """Of the hosts that are online, in the order of their ids; two queries, one of them for when anybody listened.

    Time in which nobody listened makes no host offline, but what it used before that is no longer what it uses.
    """
    values = [_milliseconds(now - DISK_KEPT), *_fresh(now, offline_before(now))]
    rows = sql.fetch(_statement(connection.vendor), values)
    for name, machine, containers, disk in rows:
        yield UsageOfHost(
            name,
            _read_machine(machine),
            bytes(containers or b""),
            _read_disk(disk) if disk else None,
        )


@cache
def _statement(vendor: str) -> str:
    return (
        "SELECT h.name, u.machine, CASE WHEN u.version = p.version THEN u.containers END,"  # noqa: S608 (constants)
        f" CASE WHEN {milliseconds('u.disk_at')} > %s THEN u.disk END"
        " FROM fleet_hostusage u JOIN fleet_hostpulse p ON p.host_id = u.host_id"
        " JOIN fleet_host h ON h.id = u.host_id"
        f" WHERE {_is_fresh()} ORDER BY u.host_id"
    )


def _is_fresh() -> str:
    """Whether what `u` tells is so now, by `p`; its values are those of `_fresh`."""
    return (
        f"{milliseconds('u.measured_at')} >= %s AND {milliseconds('p.last_seen_at')} >= %s"
        " AND NOT p.is_degraded"
    )


def _fresh(now: datetime.datetime, before: datetime.datetime) -> list[int]:
    return [_milliseconds(_oldest(now)), _milliseconds(before)]


def _oldest(now: datetime.datetime) -> datetime.datetime:
    kept_seconds = max(settings.DOCKMESH_HOST_OFFLINE_AFTER, LEAST_KEPT_SECONDS)
    return now - datetime.timedelta(seconds=kept_seconds)


def _milliseconds(moment: datetime.datetime) -> int:
    return int(moment.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class HostNow:
    """What a host that is online uses, as numbers."""

    measured_at: datetime.datetime
    cpu: float | None
    """How many processors were busy between the last two samples."""
    machine: MachineUsage
    disk: DiskUsage | None
    disk_at: datetime.datetime | None
    containers: Mapping[int, Figures]
    """By their rows' ids."""


def usage_now(
    host_ids: Collection[int], now: datetime.datetime, before: datetime.datetime
) -> dict[int, HostNow]:
    """Of those of these hosts that are online and tell; `before` is `offline_before`. One query."""
    told = HostUsage.objects.filter(
        host_id__in=host_ids,
        measured_at__gte=_oldest(now),
        host__heartbeat_state__last_seen_at__gte=before,
        host__heartbeat_state__is_degraded=False,
    ).defer("containers")
    return {
        each.host_id: HostNow(
            each.measured_at,
            each.cpu,
            _read_machine(each.machine),
            _read_disk(each.disk) if (is_kept := _is_disk_kept(each, now)) else None,
            each.disk_at if is_kept else None,
            {figures.key: figures for figures in read_figures(each.figures)},
        )
        for each in told
    }


def _is_disk_kept(told: HostUsage, now: datetime.datetime) -> bool:
    return told.disk_at is not None and told.disk_at > now - DISK_KEPT


class ByUsage:
    """Containers sorted by what they use now, those of which nothing is known below all others.

    `value` is `cpu` or `memory`. It is sliced and counted like a queryset; a slice is two queries.
    """

    def __init__(
        self,
        containers: QuerySet[Container],
        value: str,
        *,
        is_descending: bool,
        now: datetime.datetime,
        before: datetime.datetime,
    ) -> None:
        self._containers = containers.order_by()
        self._value = value
        self._is_descending = is_descending
        self._fresh = _fresh(now, before)

    def __len__(self) -> int:
        return self._containers.count()

    def __getitem__(self, wanted: slice) -> list[Container]:
        limit = wanted.stop - wanted.start
        if limit < 1:
            return []
        statement = _sorted(connection.vendor, self._value, is_descending=self._is_descending)
        among, values = "", list(self._fresh)
        if self._containers.query.has_filters():
            text, given = self._containers.values("pk").query.sql_with_params()
            among, values = f"WHERE c.id IN ({text})", [*values, *given]
        ids = [
            key for (key,) in sql.fetch(statement.replace("{among}", among), [*values, limit, wanted.start])
        ]
        found = self._containers.in_bulk(ids)
        return [found[each] for each in ids if each in found]


@cache
def _sorted(vendor: str, value: str, *, is_descending: bool) -> str:
    """The usage of all hosts is unfolded when somebody sorts by it: as columns of the containers' rows each heartbeat would
    have to write a hundred of them."""
    place = {"cpu": 1, "memory": 2}[value]
    unfolded, key, used = {
        "postgresql": (
            "json_array_elements(u.figures::json) AS e",
            "(e.value->>0)::bigint",
            f"(e.value->>{place})::double precision",
        ),
        "sqlite": (
            "json_each(u.figures) AS e",
            "CAST(json_extract(e.value, '$[0]') AS INTEGER)",
            f"json_extract(e.value, '$[{place}]')",
        ),
    }[vendor]
    # What has no value comes before all values, as in the other columns.
    order = "DESC NULLS LAST" if is_descending else "ASC NULLS FIRST"
    # Unfolded once: SQLite would do it for each container.
    return (
        f"WITH f AS MATERIALIZED (SELECT {key} AS id, {used} AS used FROM fleet_hostusage u"  # noqa: S608 (constants)
        f" JOIN fleet_hostpulse p ON p.host_id = u.host_id CROSS JOIN {unfolded} WHERE {_is_fresh()})"
        " SELECT c.id FROM fleet_container c JOIN fleet_host h ON h.id = c.host_id"
        " LEFT JOIN f ON f.id = c.id AND c.state IN ('running', 'paused')"
        f" {{among}} ORDER BY f.used {order}, h.name, c.name, c.id LIMIT %s OFFSET %s"
    )
