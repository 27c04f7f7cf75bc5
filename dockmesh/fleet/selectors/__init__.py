"""Reading the fleet, for other rooms. The rows for /metrics are plain tuples: they are read at every scrape."""

import datetime
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from django.db import connection
from django.db.models import Q, QuerySet, TextField
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Lower
from django.db.models.lookups import Contains, Exact

from dockmesh.core import clock
from dockmesh.core.compiled import CompiledQuery, Statement
from dockmesh.core.errors import InvalidInput
from dockmesh.core.text import LABEL_NAME
from dockmesh.fleet import commands
from dockmesh.fleet.listening import offline_before
from dockmesh.fleet.models import HeartbeatState, Host, Stack
from dockmesh.fleet.states import UNKNOWN, HostStatus, host_status

HostRow = tuple[int, str, str, str, str, str, str, str, str]
StackSeriesRow = tuple[int, str, int, str, float, str, float, str, str]
LastDeployRow = tuple[int, str, str, str, int]


# More ids than this are not worth a list in the query: all rows are read and the others dropped.
_MANY_IDS = 500


@dataclass(frozen=True)
class HeartbeatColumns:
    """The heartbeat states of all hosts in the order of their ids, as columns; texts are comma-separated."""

    host_ids: str
    versions: str
    """Of each host a number that changes with what `host_rows` gives for it; odd while it is offline."""
    online: int
    degraded: int
    offline: int
    ages: str
    """Whole milliseconds since each host was last seen, never negative."""
    clock_skews: str
    """Whole milliseconds."""
    rtt_counts: str
    """A semicolon between the hosts."""
    rtt_sums: str
    """Seconds, with all digits."""


def heartbeat_columns(now: datetime.datetime) -> HeartbeatColumns:
    """What a scrape at `now` reads of every host; one query for one row, and one for when anybody listened.

    This is the one read that grows with the fleet and that every scrape makes. Each row that is fetched costs
    objects and, on SQLite, letting go of the interpreter, for which the other threads wait; so the database
    joins the columns to texts.
    """
    longest = (now - offline_before(now)).total_seconds()
    (row,) = _fetched(_heartbeat_columns(connection.vendor), [longest, longest, longest, now.timestamp()])
    count, offline, degraded, *texts = row
    ids, versions, ages, skews, rtt_counts, rtt_sums = (text or "" for text in texts)
    return HeartbeatColumns(
        ids, versions, count - offline - degraded, degraded, offline, ages, skews, rtt_counts, rtt_sums
    )


@cache
def _heartbeat_columns(vendor: str) -> str:
    seen, rtt_sum = {
        "postgresql": ("EXTRACT(EPOCH FROM last_seen_at)::float8", "rtt_sum"),
        # Julian day of 1970-01-01 is 2440587.5; exact to the millisecond. SQLite's own text of a number has 15
        # digits, which are too few to read back the same.
        "sqlite": ("(julianday(last_seen_at) - 2440587.5) * 86400.0", "printf('%%!.17g', rtt_sum)"),
    }[vendor]
    columns = (
        "count(*)",
        "count(*) FILTER (WHERE age > %s)",
        "count(*) FILTER (WHERE is_degraded AND NOT age > %s)",
        _joined("host_id"),
        _joined("version * 2 + CAST(age > %s AS integer)"),
        _joined("CAST(round(CASE WHEN age > 0 THEN age ELSE 0 END * 1000) AS bigint)"),
        _joined("CAST(round(clock_skew_seconds * 1000) AS bigint)"),
        _joined("rtt_counts", ";"),
        _joined(rtt_sum),
    )
    return (
        f"SELECT {', '.join(columns)}"  # noqa: S608 (constants)
        f" FROM (SELECT host_id, version, is_degraded, clock_skew_seconds, rtt_counts, rtt_sum, %s - {seen} AS age"
        " FROM fleet_hostpulse ORDER BY host_id) AS states"
    )


def _joined(expression: str, separator: str = ",") -> str:
    """The aggregate that joins the values to a text, in the order in which the subquery has them."""
    if connection.vendor == "postgresql":
        return f"string_agg(({expression})::text, '{separator}')"
    return f"group_concat({expression}, '{separator}')"


_HOSTS = (
    "SELECT id, name, container_counts, stack_counts, agent_version, docker_version, os, arch, kernel"
    " FROM fleet_host"
)


def host_rows(host_ids: Collection[int] | None = None) -> list[HostRow]:
    """(id, name, container counts, stack counts, agent version, docker version, os, arch, kernel) of hosts.

    Counts are texts in the order of the states. All hosts where `host_ids` is None; one query.
    """
    return chosen(_HOSTS, host_ids)


STACK_SERIES_VERSIONS = CompiledQuery(
    lambda: Statement(
        f"SELECT {_joined('id')}, {_joined('version')}"  # noqa: S608 (constants)
        " FROM (SELECT id, version FROM fleet_stackseries ORDER BY id) AS series",
        columns=2,
    )
)


def stack_series_versions() -> tuple[str, str]:
    """The ids and the versions of all stack names' series, comma-separated, in the order of the ids; one query."""
    ((ids, versions),) = STACK_SERIES_VERSIONS.rows()
    return ids or "", versions or ""


_SERIES = (
    "SELECT id, name, version, success_counts, success_sum, failure_counts, failure_sum, success_exemplar,"
    " failure_exemplar"
    " FROM fleet_stackseries"
)


def stack_series_rows(series_ids: Collection[int] | None = None) -> list[StackSeriesRow]:
    """(id, name, version, success counts and sum, failure counts and sum, exemplar of each); one query."""
    return chosen(_SERIES, series_ids)


LAST_DEPLOY_VERSIONS = CompiledQuery(
    lambda: Statement(
        f"SELECT {_joined('id')}, {_joined('version')}"  # noqa: S608 (constants)
        f" FROM (SELECT s.id, p.version || ':' || {milliseconds('s.last_deploy_at')} AS version"
        " FROM fleet_stack s JOIN fleet_hostpulse p ON p.host_id = s.host_id"
        " WHERE s.last_deploy_at IS NOT NULL ORDER BY s.id) AS stacks",
        columns=2,
    )
)


def last_deploy_versions() -> tuple[str, str]:
    """The ids of all stacks that were ever deployed, and of each a text that changes with what `last_deploy_rows` gives.

    Comma-separated, in the order of the ids; one query.
    """
    ((ids, versions),) = LAST_DEPLOY_VERSIONS.rows()
    return ids or "", versions or ""


def last_deploy_rows(stack_ids: Collection[int] | None = None) -> list[LastDeployRow]:
    """(id, host, stack, result, Unix time in milliseconds) of stacks that were ever deployed; one query."""
    return chosen(
        f"SELECT s.id, h.name, s.name, s.last_deploy_result, {milliseconds('s.last_deploy_at')}"  # noqa: S608
        " FROM fleet_stack s JOIN fleet_host h ON h.id = s.host_id",
        stack_ids,
        key="s.id",
    )


def milliseconds(column: str) -> str:
    """The Unix time, whole."""
    if connection.vendor == "postgresql":
        return f"CAST(round(EXTRACT(EPOCH FROM {column}) * 1000) AS bigint)"
    return f"CAST(round((julianday({column}) - 2440587.5) * 86400000.0) AS bigint)"


@dataclass(frozen=True)
class OpenCommands:
    """Commands of one kind that are in one status: how many, and how long the oldest has been there, in seconds."""

    kind: str
    status: str
    count: int
    oldest_seconds: float


OPEN_COMMANDS = CompiledQuery(
    lambda: Statement(
        f"SELECT kind, status, count(*), min({milliseconds('created_at')}) FROM fleet_agentcommand"  # noqa: S608
        " WHERE status IN ('queued', 'handed_out') GROUP BY kind, status",
        columns=4,
    )
)


def open_commands(now: datetime.datetime) -> list[OpenCommands]:
    """All kinds that there are or that are open, each both queued and handed out, also at 0; one query."""
    found = {
        (kind, status): (count, now.timestamp() - oldest / 1000)
        for kind, status, count, oldest in OPEN_COMMANDS.rows()
    }
    kinds = sorted({*commands.kinds(), *(kind for kind, _ in found)})
    return [
        OpenCommands(kind, status, *found.get((kind, status), (0, 0.0)))
        for kind in kinds
        for status in ("queued", "handed_out")
    ]


def chosen(select: str, ids: Collection[int] | None, *, key: str = "id") -> list[Any]:
    """The rows with these ids, which are the first column, `key`; in its order. All where `ids` is None."""
    if ids is not None and not ids:
        return []
    if ids is None or len(ids) > _MANY_IDS:
        rows = _fetched(f"{select} ORDER BY {key}")
        wanted = None if ids is None else set(ids)
        return rows if wanted is None else [row for row in rows if row[0] in wanted]
    places = ", ".join(["%s"] * len(ids))
    return _fetched(f"{select} WHERE {key} IN ({places}) ORDER BY {key}", list(ids))


def _fetched(statement: str, params: Sequence[float] = ()) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, list(params))
        return list(cursor.fetchall())


def status_of(last_seen_at: datetime.datetime, is_degraded: bool, before: datetime.datetime) -> HostStatus:
    """A host's status; `before` is `offline_before`. Offline is a matter of time and never stored."""
    return host_status(is_offline=last_seen_at < before, is_degraded=is_degraded)


def status_of_host(state: HeartbeatState, before: datetime.datetime) -> HostStatus:
    """The same of a host's heartbeat state."""
    return status_of(state.last_seen_at, state.is_degraded, before)


def is_offline(state: HeartbeatState) -> bool:
    """Whether a host with this heartbeat state is offline now; one query."""
    return state.last_seen_at < offline_before(clock.now())


def counts_by_state(counts: str, states: type[StrEnum], *, is_unknown: bool) -> dict[str, int]:
    """A host's summary as a dictionary; all of it `unknown` while the host is offline."""
    numbers = [int(number) for number in counts.split(",")]
    if is_unknown:
        numbers = [0] * (len(numbers) - 1) + [sum(numbers)]
    return {state.value: number for state, number in zip(states, numbers, strict=True)}


def hosts() -> QuerySet[Host]:
    """All hosts by name."""
    return Host.objects.order_by("name")


def host_choices() -> list[tuple[int, str]]:
    """(id, name) of all hosts by name; one query."""
    return list(hosts().values_list("pk", "name"))


def stacks() -> QuerySet[Stack]:
    """All stacks, with their hosts and the hosts' heartbeat states."""
    return Stack.objects.select_related("host__heartbeat_state")


def repositories() -> list[str]:
    """The names of the backup repositories that the hosts' agents know; one query."""
    known = Host.objects.values_list("agent_info", flat=True)
    return sorted({name for info in known for name in info.get("repositories", ())})


def hosts_in_status(status: HostStatus, *, prefix: str = "") -> Q:
    """Hosts in this status by now; `prefix` leads from the queried rows to the host (`host__`)."""
    limit = offline_before(clock.now())
    if status is HostStatus.OFFLINE:
        return Q(**{f"{prefix}heartbeat_state__last_seen_at__lt": limit})
    return Q(
        **{
            f"{prefix}heartbeat_state__last_seen_at__gte": limit,
            f"{prefix}heartbeat_state__is_degraded": status is HostStatus.DEGRADED,
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


def with_label(text: str) -> Q:
    """As `hosts_with_label`, of what somebody has written; raises `InvalidInput`."""
    if not LABEL_NAME.match(text.partition("=")[0]):
        raise InvalidInput("label", "must be key=value, or a key alone.")
    return hosts_with_label(text)


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
    """All hosts with an address and this exporter (a key of `EXPORTERS`), by id; two queries."""
    port = EXPORTERS[exporter]
    before = offline_before(clock.now())
    rows = (
        Host.objects.exclude(address="")
        .exclude(**{port: None})
        .select_related("heartbeat_state")
        .order_by("id")
    )
    return [
        Target(
            host.pk,
            host.name,
            status_of_host(host.heartbeat_state, before),
            host.address,
            getattr(host, port),
            host.labels,
        )
        for host in rows
    ]
