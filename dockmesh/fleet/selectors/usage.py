"""Reading what hosts and their containers use, for /metrics."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import msgspec
from django.conf import settings
from django.db import connection

from dockmesh.fleet import sql
from dockmesh.fleet.ingest.documents import DiskUsage, MachineUsage
from dockmesh.fleet.listening import offline_before
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
    kept_seconds = max(settings.DOCKMESH_HOST_OFFLINE_AFTER, LEAST_KEPT_SECONDS)
    moments = (now - DISK_KEPT, now - datetime.timedelta(seconds=kept_seconds), offline_before(now))
    rows = sql.fetch(_statement(connection.vendor), [int(each.timestamp() * 1000) for each in moments])
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
        f" WHERE {milliseconds('u.measured_at')} >= %s AND {milliseconds('p.last_seen_at')} >= %s"
        " AND NOT p.is_degraded ORDER BY u.host_id"
    )
