"""What the overview says: is the fleet well, what is wrong, what happened, what a newcomer does next."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from django.urls import reverse

from dockmesh.audit import selectors as audit
from dockmesh.fleet.selectors import summary
from dockmesh.fleet.states import HostStatus
from dockmesh.web import incidents
from dockmesh.web.incidents import Incident
from dockmesh.web.states import tone_of

MOST_INCIDENTS = 20
MOST_ACTIVITY = 9
MOST_MARKS = 2000
DENSE_FROM = 100


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
    incidents: tuple[Incident, ...]
    more_incidents: int
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
    found = incidents.read(fleet, now)
    hosts = sorted(fleet.hosts, key=lambda mark: mark.status is HostStatus.ONLINE)[:MOST_MARKS]
    verdict, tone = _verdict(fleet, found)
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
        incidents=tuple(incidents.with_flaps(found[:MOST_INCIDENTS], now)),
        more_incidents=max(0, len(found) - MOST_INCIDENTS),
        activity=tuple(_activity()) if may_see_audit else (),
    )


def _verdict(fleet: summary.FleetSummary, found: list[Incident]) -> tuple[str, str]:
    if not fleet.hosts and not found:
        return "No hosts yet", "unknown"
    if not found:
        only = len(fleet.hosts) == 1
        return ("Your host is well" if only else f"All {len(fleet.hosts)} hosts are well"), "well"
    count = len(found)
    tone = "bad" if any(each.tone == "bad" for each in found) else "warning"
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
