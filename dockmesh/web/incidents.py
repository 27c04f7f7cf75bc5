"""What is wrong now, by its root: a host that is away swallows what is on it, and one fault on many hosts is one incident."""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from urllib.parse import urlencode

from django.urls import reverse

from dockmesh.alerts import selectors as alerts
from dockmesh.alerts import silences
from dockmesh.alerts.selectors import FiringAlert
from dockmesh.audit import selectors as audit
from dockmesh.deploys import causes
from dockmesh.fleet.causes import when
from dockmesh.fleet.selectors import summary
from dockmesh.fleet.selectors.summary import HostMark
from dockmesh.fleet.states import HostStatus

MOST_READ = 5000
MOST_NAMED = 4
MOST_CONTAINERS = 200
# Hosts that went silent so shortly after each other most likely share the cause: a switch, a site, a power line.
TOGETHER = datetime.timedelta(seconds=60)
FLAPS_WITHIN = datetime.timedelta(hours=24)

AUDIT_SUBJECT = "The audit log"
HOSTS, STACKS, OTHERS = range(3)
_TONES = {"critical": "bad", "warning": "warning", "info": "info"}
_TONE_ORDER = {"bad": 0, "warning": 1, "info": 2}
# What differs between two hosts that have the same fault.
_OWN = re.compile(
    r",? ?\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC|,? restarted (once|twice|\d+ times)( within \d+ seconds)?"
    r"|keeps restarting, |(?<=last deploy) \(\d+\)"
)


@dataclass(frozen=True)
class Incident:
    """One cause and what it reaches. `id` and `path` stay the same for as long as it is the same incident."""

    id: str
    rank: int
    tone: str
    subject: str
    words: str
    path: str
    since: datetime.datetime | None
    hosts: tuple[str, ...] = ()
    """The names of the hosts, where there are several."""
    swallowed: int = 0
    """How many alerts there are about it and what it reaches."""
    alerts: tuple[FiringAlert, ...] = ()
    containers: tuple[int, ...] = ()
    host_name: str = ""
    stack_name: str = ""
    flaps: int = 0
    """How often its alert fired within a day, if more than once."""
    is_silenced: bool = False
    """Whether nobody is told of it now; it comes last then."""
    stack_id: int = 0
    """Of the stack, or of the first of several."""
    last_lines: tuple[str, ...] = ()
    """Of what the deploy wrote that failed."""

    @property
    def silence_path(self) -> str:
        """Where to silence it; empty for what can't be: it is on no host. Of several hosts the visitor says which."""
        scope = {"host": self.host_name, "stack": self.stack_name}
        asked = urlencode({name: value for name, value in scope.items() if value})
        is_on_hosts = asked or self.hosts
        return f"{reverse('alerts:silence-add')}{'?' if asked else ''}{asked}" if is_on_hosts else ""

    @property
    def shown_hosts(self) -> tuple[str, ...]:
        """The first few."""
        return self.hosts[:MOST_NAMED]

    @property
    def more_hosts(self) -> int:
        """How many are not named."""
        return max(0, len(self.hosts) - MOST_NAMED)

    @property
    def alert_path(self) -> str:
        """Its alert, if it is on one host."""
        return reverse("alerts:alert", args=[self.alerts[0].id]) if self.alerts and not self.hosts else ""

    @property
    def logs_path(self) -> str:
        """The page, with the log, of the container that failed, if it is one."""
        return reverse("fleet:container", args=self.containers) if len(self.containers) == 1 else ""

    @property
    def restart_path(self) -> str:
        """Where to restart the containers that failed."""
        if not self.containers:
            return ""
        chosen = [("container", pk) for pk in self.containers[:MOST_CONTAINERS]]
        return f"{reverse('fleet:containers-act')}?{urlencode([*chosen, ('action', 'restart')])}"


@dataclass
class _Fault:
    """A thing that is wrong on one host, before those of several hosts are put together."""

    thing: str
    host: HostMark
    path: str
    cause: str
    tone: str = "bad"
    since: datetime.datetime | None = None
    stack_name: str = ""
    containers: tuple[int, ...] = ()
    stack_id: int = 0
    is_seen: bool = False
    """Whether the cause is what is so now; else it is what its alerts said."""
    alerts: list[FiringAlert] = field(default_factory=list)

    def add(self, alert: FiringAlert) -> None:
        """Take an alert about it: as bad as the worse of both; nothing is said twice."""
        tone = _TONES.get(alert.severity, "warning")
        self.tone = min(self.tone, tone, key=lambda each: _TONE_ORDER[each])
        if not self.is_seen and alert.cause.rstrip(".") not in self.cause:
            is_more = self.cause.rstrip(".") not in alert.cause
            self.cause = f"{self.cause.rstrip('.')}. {alert.cause}" if is_more else alert.cause
        began = alert.active_since
        self.since = min(self.since, began) if self.since else began
        self.alerts.append(alert)


def read(fleet: summary.FleetSummary, now: datetime.datetime) -> list[Incident]:
    """All of them: hosts first, then stacks and containers, then the rest; of each the worst, then the oldest.

    Seven queries at most, whatever the fleet's size.
    """
    firing = alerts.firing_alerts(most=MOST_READ)
    away = {host.id: host for host in fleet.hosts if host.status is not HostStatus.ONLINE}
    on_host: dict[int, list[FiringAlert]] = {}
    rest: list[FiringAlert] = []
    for alert in firing:
        if alert.host_id in away:
            on_host.setdefault(alert.host_id, []).append(alert)
        else:
            rest.append(alert)
    found = [*_silent(away.values(), on_host), *_degraded(away.values(), on_host)]
    by_id = {host.id: host for host in fleet.hosts}
    faults, others = _faults(by_id, rest, now)
    found += _together(faults)
    found += others
    if not any(alert.key == "audit" for alert in firing) and (changed := audit.trouble()):
        words = f"was changed behind the server's back: {changed}."
        found.append(
            Incident("incident-audit", OTHERS, "bad", AUDIT_SUBJECT, words, reverse("audit:entries"), None)
        )
    return sorted(_muted(found, fleet.hosts, silences.active(now)), key=_order)


def _muted(
    found: Iterable[Incident], hosts: Iterable[HostMark], scopes: Sequence[silences.Scope]
) -> Iterator[Incident]:
    """The same; those that are silenced on all of their hosts say so."""
    labels = {host.name: host.labels for host in hosts}
    for each in found:
        names = each.hosts or (each.host_name,)
        is_silenced = bool(scopes) and all(
            silences.is_silenced(scopes, name, labels.get(name, {}), each.stack_name) for name in names
        )
        yield replace(each, is_silenced=True) if is_silenced else each


def with_flaps(incidents: Sequence[Incident], now: datetime.datetime) -> list[Incident]:
    """The same, each with how often it came within a day; one query."""
    first = [each.alerts[0] for each in incidents if each.alerts]
    counts = alerts.times_fired(first, since=now - FLAPS_WITHIN) if first else {}
    flapped = []
    for each in incidents:
        own = each.alerts[0] if each.alerts else None
        count = counts.get((own.rule_id, own.key), 0) if own else 0
        flapped.append(replace(each, flaps=count) if count > 1 else each)
    return flapped


def with_last_lines(incidents: Sequence[Incident]) -> list[Incident]:
    """The same, each with the last lines of the deploy that failed, for whoever may read those; one query."""
    stack_ids = [each.stack_id for each in incidents if each.stack_id]
    lines = causes.last_lines(stack_ids) if stack_ids else {}
    return [
        replace(each, last_lines=lines[each.stack_id]) if each.stack_id in lines else each
        for each in incidents
    ]


def _order(incident: Incident) -> tuple[bool, int, int, float, str]:
    began = incident.since.timestamp() if incident.since else 0.0
    return incident.is_silenced, incident.rank, _TONE_ORDER[incident.tone], began, incident.id


def _silent(hosts: Iterable[HostMark], on_host: dict[int, list[FiringAlert]]) -> Iterator[Incident]:
    """The hosts that are offline; those that went silent within a minute of each other are one incident."""
    offline = [host for host in hosts if host.status is HostStatus.OFFLINE]
    heard = sorted((host.last_seen_at, host.id, host) for host in offline if host.last_seen_at)
    never = sorted((host for host in offline if not host.last_seen_at), key=lambda host: host.id)
    group: list[HostMark] = []
    before: datetime.datetime | None = None
    for seen_at, _, host in heard:
        if before is not None and seen_at - before > TOGETHER:
            yield _silence(group, on_host)
            group = []
        group.append(host)
        before = seen_at
    for hosts_of_one in filter(None, (group, never)):
        yield _silence(hosts_of_one, on_host)


def _silence(hosts: Sequence[HostMark], on_host: dict[int, list[FiringAlert]]) -> Incident:
    first = hosts[0]
    about = [alert for host in hosts for alert in on_host.get(host.id, ())]
    since = first.last_seen_at
    if len(hosts) == 1:
        words = (
            f"is offline. No heartbeat since {when(since)}."
            if since
            else "is offline: its agent has not reported yet."
        )
        return Incident(
            id=f"incident-host-{first.id}",
            rank=HOSTS,
            tone="bad",
            subject=f"Host {first.name}",
            words=words,
            path=reverse("fleet:host", args=[first.id]),
            since=since,
            swallowed=len(about),
            alerts=tuple(alert for alert in about if alert.key == f"host:{first.id}"),
            host_name=first.name,
        )
    return Incident(
        id=f"incident-silent-{first.id}",
        rank=HOSTS,
        tone="bad",
        subject=f"{len(hosts)} hosts",
        words=f"are silent since {since:%H:%M UTC}." if since else "have not reported yet.",
        path=f"{reverse('fleet:hosts')}?status=offline",
        since=since,
        hosts=tuple(host.name for host in hosts),
        swallowed=len(about),
        alerts=tuple(alert for alert in about if alert.key == f"host:{first.id}"),
    )


def _degraded(hosts: Iterable[HostMark], on_host: dict[int, list[FiringAlert]]) -> Iterator[Incident]:
    """The hosts whose agent is heard and whose Docker isn't; those with the same error are one incident."""
    degraded = [host for host in hosts if host.status is HostStatus.DEGRADED]
    key = _docker_error
    for error, group in groupby(sorted(degraded, key=lambda host: (key(host), host.id)), key=key):
        same = list(group)
        first = same[0]
        about = [alert for host in same for alert in on_host.get(host.id, ())]
        own = [alert for alert in about if alert.key.startswith("host:")]
        is_one = len(same) == 1
        yield Incident(
            id=f"incident-host-{first.id}" if is_one else f"incident-docker-{_mark(error)}",
            rank=HOSTS,
            tone="bad" if any(alert.severity == "critical" for alert in own) else "warning",
            subject=f"Host {first.name}" if is_one else f"{len(same)} hosts",
            words=f"is degraded: {error}" if is_one else f"are degraded: {error}",
            path=reverse("fleet:host", args=[first.id])
            if is_one
            else f"{reverse('fleet:hosts')}?status=degraded",
            since=min((alert.active_since for alert in own), default=None),
            hosts=() if is_one else tuple(host.name for host in same),
            swallowed=len(about),
            alerts=tuple(own[:1]),
            host_name=first.name if is_one else "",
        )


def _docker_error(host: HostMark) -> str:
    return host.docker_error or "Docker does not answer"


def _faults(
    hosts: dict[int, HostMark], firing: Iterable[FiringAlert], now: datetime.datetime
) -> tuple[list[_Fault], list[Incident]]:
    """The stacks and containers that are wrong on hosts that are well, and the alerts about anything else."""
    faults: dict[tuple[int, str], _Fault] = {}
    stacks = summary.stacks_in_error(now, most=MOST_READ)
    troubles = causes.troubles() if stacks else {}
    for stack in stacks:
        host = hosts.get(stack.host_id)
        if host is None or host.status is not HostStatus.ONLINE:
            continue
        trouble = troubles.get(stack.id)
        faults[host.id, stack.name] = _Fault(
            thing=f"Stack {stack.name}",
            host=host,
            path=reverse("deploys:stack", args=[stack.id]),
            cause=trouble.words if trouble else "The stack is in error.",
            since=stack.state_changed_at,
            stack_name=stack.name,
            stack_id=stack.id,
            is_seen=True,
            containers=tuple(each.id for each in trouble.containers) if trouble else (),
        )
    others: dict[str, list[FiringAlert]] = {}
    for alert in firing:
        host = hosts.get(alert.host_id or 0)
        if host is None or not alert.key.startswith(("stack:", "container:")):
            others.setdefault(alert.subject, []).append(alert)
            continue
        thing = alert.subject.removesuffix(f" on {alert.host_name}")
        key = (host.id, alert.stack_name or thing)
        fault = faults.get(key)
        if fault is None:
            own_path = reverse("alerts:alert", args=[alert.id])
            fault = faults[key] = _Fault(
                thing, host, own_path, alert.cause, _TONES.get(alert.severity, "warning")
            )
            fault.stack_name = alert.stack_name
        fault.add(alert)
    return list(faults.values()), [_other(subject, same) for subject, same in others.items()]


def _other(subject: str, same: Sequence[FiringAlert]) -> Incident:
    """What no stack or container is, and all alerts about it: as bad as the worst, which it leads to."""
    worst, *milder = sorted(
        same, key=lambda alert: (_TONE_ORDER[_TONES.get(alert.severity, "warning")], alert.id)
    )
    words = worst.cause
    for alert in milder:
        if alert.cause.rstrip(".") not in words:
            words = f"{words.rstrip('.')}. {alert.cause}"
    return Incident(
        id=f"incident-{_mark(subject)}",
        rank=OTHERS,
        tone=_TONES.get(worst.severity, "warning"),
        subject=subject,
        words=words,
        path=reverse("alerts:alert", args=[worst.id]),
        since=min(alert.active_since for alert in same),
        alerts=(worst, *milder),
        swallowed=len(same),
        host_name=worst.host_name,
    )


def _together(faults: Iterable[_Fault]) -> Iterator[Incident]:
    """One incident for the same thing that fails for the same cause, on however many hosts."""
    groups: dict[tuple[str, str], list[_Fault]] = {}
    for fault in faults:
        without_host = fault.cause.replace(f" on {fault.host.name}", "")
        groups.setdefault((fault.thing, _OWN.sub("", without_host)), []).append(fault)
    for (thing, cause), same in groups.items():
        same.sort(key=lambda fault: fault.host.id)
        first = same[0]
        tone = min((fault.tone for fault in same), key=lambda each: _TONE_ORDER[each])
        about = [alert for fault in same for alert in fault.alerts]
        since = min((fault.since for fault in same if fault.since), default=None)
        is_one = len(same) == 1
        subject = f"{thing} on {first.host.name}" if is_one else thing.removeprefix("Stack ")
        path = (
            f"{reverse('deploys:stacks')}?{urlencode({'q': first.stack_name, 'state': 'error'})}"
            if first.stack_name
            else f"{reverse('alerts:alerts')}?status=firing"
        )
        yield Incident(
            id=f"incident-{_mark(thing, str(first.host.id) if is_one else cause)}",
            rank=STACKS,
            tone=tone,
            subject=subject,
            words=first.cause if is_one else f"fails on {len(same)} hosts: {cause}",
            path=first.path if is_one else path,
            since=since,
            hosts=() if is_one else tuple(fault.host.name for fault in same),
            swallowed=len(about),
            alerts=tuple(about[:1]),
            containers=tuple(pk for fault in same for pk in fault.containers),
            host_name=first.host.name if is_one else "",
            stack_name=first.stack_name,
            stack_id=first.stack_id,
        )


def _mark(*parts: str) -> str:
    """A short name for what has none."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=6).hexdigest()
