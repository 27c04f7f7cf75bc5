"""Reading the fleet, for other rooms. The rows for /metrics are plain tuples: they are read at every scrape."""

import datetime
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Q, TextField
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Lower
from django.db.models.lookups import Contains, Exact

from dockmesh.core import clock
from dockmesh.core.compiled import CompiledQuery
from dockmesh.fleet.models import Host, HostPulse, StackSeries
from dockmesh.fleet.states import HostStatus

UNKNOWN = "unknown"

PulseRow = tuple[int, int, datetime.datetime, bool, str, float, float]
HostRow = tuple[int, str, str, str, str, str, str, str, str]
StackSeriesRow = tuple[int, str, int, str, float, str, float]


# More ids than this are not worth a list in the query: all rows are read and the others dropped.
_MANY_IDS = 500


@dataclass(frozen=True)
class PulseColumns:
    """The pulses of all hosts in the order of their ids, as columns."""

    host_ids: Sequence[int]
    versions: Sequence[int]
    last_seen: Sequence[float]
    """Unix seconds."""
    are_degraded: Sequence[bool]
    rtt_counts: Sequence[str]
    rtt_sums: Sequence[float]
    clock_skews: Sequence[float]


def offline_before(now: datetime.datetime) -> datetime.datetime:
    """A host that was last seen before this moment is offline."""
    return now - datetime.timedelta(seconds=settings.DOCKMESH_HOST_OFFLINE_AFTER)


def pulse_rows() -> list[PulseRow]:
    """(host id, version, last seen at, is degraded, rtt counts, rtt sum, clock skew) of every host; one query.

    `version` rises with every change of what `host_rows` gives for the host or of `is degraded`.
    """
    return list(
        HostPulse.objects.order_by("host_id").values_list(
            "host_id",
            "version",
            "last_seen_at",
            "is_degraded",
            "rtt_counts",
            "rtt_sum",
            "clock_skew_seconds",
        )
    )


def pulse_columns() -> PulseColumns:
    """What a scrape reads of every host: the pulses as columns; one query.

    By a plain cursor, since this is the one read that grows with the fleet and every scrape makes it.
    """
    seen = {
        "postgresql": "EXTRACT(EPOCH FROM last_seen_at)::float8",
        # Julian day of 1970-01-01 is 2440587.5; exact to the millisecond.
        "sqlite": "(julianday(last_seen_at) - 2440587.5) * 86400.0",
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT host_id, version, {seen}, is_degraded, rtt_counts, rtt_sum, clock_skew_seconds"  # noqa: S608 (constants)
            " FROM fleet_hostpulse ORDER BY host_id"
        )
        rows = cursor.fetchall()
    return PulseColumns(*zip(*rows, strict=True)) if rows else PulseColumns((), (), (), (), (), (), ())


_HOSTS = (
    "SELECT id, name, container_counts, stack_counts, agent_version, docker_version, os, arch, kernel"
    " FROM fleet_host"
)


def host_rows(host_ids: Collection[int] | None = None) -> list[HostRow]:
    """(id, name, container counts, stack counts, agent version, docker version, os, arch, kernel) of hosts.

    Counts are texts in the order of the states. All hosts where `host_ids` is None; one query.
    """
    return _chosen(_HOSTS, host_ids)


_series_versions = CompiledQuery(lambda: StackSeries.objects.order_by("id").values_list("id", "version"))


def stack_series_versions() -> dict[int, int]:
    """id → version of every stack name's series, in the order of the ids; one query."""
    return dict(_series_versions.rows())


_SERIES = (
    "SELECT id, name, version, success_counts, success_sum, failure_counts, failure_sum"
    " FROM fleet_stackseries"
)


def stack_series_rows(series_ids: Collection[int] | None = None) -> list[StackSeriesRow]:
    """(id, name, version, success counts, success sum, failure counts, failure sum); one query."""
    return _chosen(_SERIES, series_ids)


def _chosen(select: str, ids: Collection[int] | None) -> list[Any]:
    """The rows with these ids in the order of the ids; all where `ids` is None. Texts and numbers only."""
    if ids is not None and not ids:
        return []
    if ids is None or len(ids) > _MANY_IDS:
        rows = _fetched(f"{select} ORDER BY id")
        wanted = None if ids is None else set(ids)
        return rows if wanted is None else [row for row in rows if row[0] in wanted]
    places = ", ".join(["%s"] * len(ids))
    return _fetched(f"{select} WHERE id IN ({places}) ORDER BY id", list(ids))


def _fetched(statement: str, params: Sequence[int] = ()) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, list(params))
        return list(cursor.fetchall())


def is_offline(pulse: HostPulse) -> bool:
    """Whether the host has been silent for too long, by now."""
    return pulse.last_seen_at < offline_before(clock.now())


def status_of(pulse: HostPulse) -> HostStatus:
    """The host's status, by now."""
    if is_offline(pulse):
        return HostStatus.OFFLINE
    return HostStatus.DEGRADED if pulse.is_degraded else HostStatus.ONLINE


def counts_by_state(counts: str, states: type[StrEnum], *, is_unknown: bool) -> dict[str, int]:
    """A host's summary as a dictionary; all of it `unknown` while the host is offline."""
    numbers = [int(number) for number in counts.split(",")]
    if is_unknown:
        numbers = [0] * (len(numbers) - 1) + [sum(numbers)]
    return {state.value: number for state, number in zip(states, numbers, strict=True)}


def hosts_in_status(status: HostStatus, *, prefix: str = "") -> Q:
    """Hosts in this status by now; `prefix` leads from the queried rows to the host (`host__`)."""
    limit = offline_before(clock.now())
    if status is HostStatus.OFFLINE:
        return Q(**{f"{prefix}pulse__last_seen_at__lt": limit})
    return Q(
        **{
            f"{prefix}pulse__last_seen_at__gte": limit,
            f"{prefix}pulse__is_degraded": status is HostStatus.DEGRADED,
        }
    )


def in_shown_state(state: str) -> Q:
    """Containers or stacks that are shown in this state: those of an offline host are all `unknown`."""
    offline = hosts_in_status(HostStatus.OFFLINE, prefix="host__")
    if state == UNKNOWN:
        return offline | Q(state=state)
    return ~offline & Q(state=state)


def hosts_with_label(text: str) -> Q:
    """Hosts with the label `key=value`, or with any value of `key`."""
    key, is_given, value = text.partition("=")
    if not is_given:
        return Q(labels__has_key=key)
    return Q(Exact(KeyTextTransform(key, "labels"), value))


def hosts_with_label_text(text: str) -> Q:
    """Hosts with this text anywhere in their labels, `key=value` or a part of either; for the search box."""
    key, is_given, value = text.partition("=")
    if is_given:
        return Q(Exact(KeyTextTransform(key.strip(), "labels"), value.strip()))
    return Q(Contains(Lower(Cast("labels", TextField())), text.lower()))


@dataclass(frozen=True)
class Target:
    """A host as Prometheus's service discovery sees it."""

    id: int
    name: str
    status: HostStatus
    address: str
    port: int
    labels: dict[str, str]


EXPORTERS = {"node": "node_exporter_port", "cadvisor": "cadvisor_port"}


def targets(exporter: str) -> list[Target]:
    """All hosts with an address and this exporter (a key of `EXPORTERS`), by id; one query."""
    port = EXPORTERS[exporter]
    rows = Host.objects.exclude(address="").exclude(**{port: None}).select_related("pulse").order_by("id")
    return [
        Target(host.pk, host.name, status_of(host.pulse), host.address, getattr(host, port), host.labels)
        for host in rows
    ]
