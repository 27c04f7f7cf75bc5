"""What the overview says: is the fleet well, what is wrong, what happened, what a newcomer does next."""

from __future__ import annotations

import dataclasses
import datetime
from dataclasses import dataclass

from django.urls import reverse

from dockmesh.alerts import selectors as alerts
from dockmesh.audit import selectors as audit
from dockmesh.deploys import causes
from dockmesh.fleet.selectors import summary
from dockmesh.fleet.states import HostStatus
from dockmesh.web.states import tone_of

MOST_TROUBLES = 12
MOST_READ = 200
MOST_ACTIVITY = 9
MOST_MARKS = 2000
DENSE_FROM = 100

AUDIT_SUBJECT = "The audit log"

_SEVERITY_TONES = {"critical": "bad", "warning": "warning", "info": "info"}
_TONE_ORDER = {"bad": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class Total:
    """One kind of thing: how many, and how many in each state. Links lead to the filtered list."""

    label: str
    path: str
    filter_name: str
    total: int
    parts: tuple[tuple[str, int], ...]

    @property
    def shown_parts(self) -> list[tuple[str, int, str]]:
        """(state, count, link) of the states that are not empty."""
        return [
            (state, count, f"{self.path}?{self.filter_name}={state}") for state, count in self.parts if count
        ]


@dataclass(frozen=True)
class Trouble:
    """Something that is wrong now. The worst come first, then the newest."""

    tone: str
    subject: str
    words: str
    path: str
    since: datetime.datetime | None


@dataclass(frozen=True)
class Activity:
    """An audit entry as a short sentence."""

    tone: str
    words: str
    target: str
    actor: str
    at: datetime.datetime


@dataclass(frozen=True)
class Overview:
    """All of the page."""

    verdict: str
    verdict_tone: str
    totals: tuple[Total, ...]
    hosts: tuple[summary.HostMark, ...]
    hidden_hosts: int
    troubles: tuple[Trouble, ...]
    more_troubles: int
    activity: tuple[Activity, ...]

    @property
    def is_dense(self) -> bool:
        """Whether the strip's marks must be small; too small, and too many, to be links each."""
        return len(self.hosts) >= DENSE_FROM

    @property
    def strip_words(self) -> str:
        """The strip for who can't see it."""
        return "Every host: " + ", ".join(f"{count} {status}" for status, count in self.totals[0].parts)


def read(now: datetime.datetime, *, may_see_audit: bool) -> Overview:
    """The overview at a moment: twelve queries at most, whatever the fleet's size."""
    fleet = summary.fleet_summary(now)
    troubles = _troubles(fleet, now)
    worst_first = sorted(
        troubles, key=lambda each: (_TONE_ORDER[each.tone], -(each.since.timestamp() if each.since else 0.0))
    )
    hosts = sorted(fleet.hosts, key=lambda mark: mark.status is HostStatus.ONLINE)[:MOST_MARKS]
    verdict, tone = _verdict(fleet, troubles)
    return Overview(
        verdict=verdict,
        verdict_tone=tone,
        totals=(
            Total("Hosts", reverse("fleet:hosts"), "status", len(fleet.hosts), fleet.host_counts),
            Total(
                "Stacks",
                reverse("deploys:stacks"),
                "state",
                sum(c for _, c in fleet.stack_counts),
                fleet.stack_counts,
            ),
            Total(
                "Containers",
                reverse("fleet:containers"),
                "state",
                sum(c for _, c in fleet.container_counts),
                fleet.container_counts,
            ),
        ),
        hosts=tuple(hosts if len(fleet.hosts) > MOST_MARKS else fleet.hosts),
        hidden_hosts=max(0, len(fleet.hosts) - MOST_MARKS),
        troubles=tuple(worst_first[:MOST_TROUBLES]),
        more_troubles=max(0, len(troubles) - MOST_TROUBLES),
        activity=tuple(_activity()) if may_see_audit else (),
    )


def _troubles(fleet: summary.FleetSummary, now: datetime.datetime) -> list[Trouble]:
    """Firing alerts, and what is wrong that no alert tells of already."""
    told: dict[str, Trouble] = {}
    for alert in alerts.firing_alerts(most=MOST_READ):
        tone = _SEVERITY_TONES.get(alert.severity, "warning")
        trouble = Trouble(
            tone, alert.subject, alert.cause, reverse("alerts:alert", args=[alert.id]), alert.fired_at
        )
        before = told.get(alert.subject)
        told[alert.subject] = _together(before, trouble) if before else trouble
    found = list(told.values())
    for host in fleet.hosts:
        subject = f"Host {host.name}"
        if subject in told or host.status is HostStatus.ONLINE:
            continue
        path = reverse("fleet:host", args=[host.id])
        if host.status is HostStatus.OFFLINE:
            words = "is offline." if host.last_seen_at else "is offline: its agent has not reported yet."
            found.append(Trouble("bad", subject, words, path, host.last_seen_at))
        else:
            words = f"is degraded: {host.docker_error or 'Docker does not answer'}"
            found.append(Trouble("warning", subject, words, path, None))
    if AUDIT_SUBJECT not in told and (changed := audit.trouble()):
        found.append(
            Trouble(
                "bad",
                AUDIT_SUBJECT,
                f"was changed behind the server's back: {changed}.",
                reverse("audit:entries"),
                None,
            )
        )
    untold = [
        stack
        for stack in summary.stacks_in_error(now, most=MOST_READ)
        if f"Stack {stack.name} on {stack.host_name}" not in told
    ]
    reasons = causes.of_stacks_in_error() if untold else {}
    for stack in untold:
        subject, path = f"Stack {stack.name} on {stack.host_name}", reverse("deploys:stack", args=[stack.id])
        words = reasons.get(stack.id, "is in error.")
        found.append(Trouble("bad", subject, words, path, stack.state_changed_at))
    return found


def _together(one: Trouble, other: Trouble) -> Trouble:
    """Two alerts about one subject as one trouble: as bad as the worse, which it leads to; nothing is said twice."""
    worse, milder = sorted((one, other), key=lambda each: _TONE_ORDER[each.tone])
    longer, shorter = sorted((worse.words, milder.words), key=len, reverse=True)
    if shorter.rstrip(".") in longer:
        return dataclasses.replace(worse, words=longer)
    return dataclasses.replace(worse, words=f"{worse.words.rstrip('.')}. {milder.words}")


def _verdict(fleet: summary.FleetSummary, troubles: list[Trouble]) -> tuple[str, str]:
    if not fleet.hosts and not troubles:
        return "No hosts yet", "unknown"
    if not troubles:
        only = len(fleet.hosts) == 1
        return ("Your host is well" if only else f"All {len(fleet.hosts)} hosts are well"), "well"
    count = len(troubles)
    tone = "bad" if any(each.tone == "bad" for each in troubles) else "warning"
    return ("1 thing is wrong" if count == 1 else f"{count} things are wrong"), tone


def _activity() -> list[Activity]:
    found = []
    for entry in audit.recent_entries(most=MOST_ACTIVITY):
        subject, _, what = entry.action.partition(".")
        words = f"{subject} {what}".replace("_", " ").capitalize()
        tone = tone_of(what.split("_")[-1])
        found.append(
            Activity(
                tone=tone if tone in ("bad", "warning") else "idle",
                words=words,
                target=entry.target_name,
                actor=entry.actor_name if entry.actor_kind != "system" else "",
                at=entry.at,
            )
        )
    return found
