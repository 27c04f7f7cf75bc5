"""What the overview says: is the fleet well, what is wrong, what happened, what a newcomer does next."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from django.urls import reverse

from dockmesh.audit import selectors as audit
from dockmesh.fleet.selectors import summary
from dockmesh.fleet.states import HostStatus
from dockmesh.web import incidents, strip
from dockmesh.web.incidents import Incident
from dockmesh.web.states import tone_of
from dockmesh.web.strip import Group

MOST_INCIDENTS = 20
MOST_ACTIVITY = 9
MOST_MARKS = 2000


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
    strip: tuple[Group, ...]
    grouped_by: str
    labels: tuple[str, ...]
    """By which the strip can be grouped."""
    incidents: tuple[Incident, ...]
    more_incidents: int
    activity: tuple[Activity, ...]


def read(
    now: datetime.datetime, *, may_see_audit: bool, may_read_output: bool = False, by: str = ""
) -> Overview:
    """The overview at a moment: 13 queries at most, whatever the fleet's size."""
    fleet = summary.fleet_summary(now)
    found = incidents.read(fleet, now)
    hosts = sorted(fleet.hosts, key=lambda mark: mark.status is HostStatus.ONLINE)[:MOST_MARKS]
    shown = tuple(hosts if len(fleet.hosts) > MOST_MARKS else fleet.hosts)
    labels = strip.label_names(fleet.hosts)
    grouped_by = by if by in labels else ""
    shown_incidents = incidents.with_flaps(found[:MOST_INCIDENTS], now)
    if may_read_output:
        shown_incidents = incidents.with_last_lines(shown_incidents)
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
        hosts=shown,
        strip=tuple(strip.groups(shown, now, by=grouped_by)),
        grouped_by=grouped_by,
        labels=tuple(labels),
        hidden_hosts=max(0, len(fleet.hosts) - MOST_MARKS),
        incidents=tuple(shown_incidents),
        more_incidents=max(0, len(found) - MOST_INCIDENTS),
        activity=tuple(_activity()) if may_see_audit else (),
    )


def _verdict(fleet: summary.FleetSummary, found: list[Incident]) -> tuple[str, str]:
    if not fleet.hosts and not found:
        return "No hosts yet", "unknown"
    if not found:
        only = len(fleet.hosts) == 1
        return ("Your host is well" if only else f"All {len(fleet.hosts)} hosts are well"), "well"
    loud = [each for each in found if not each.is_silenced]
    if not loud:
        return "What is wrong is silenced", "idle"
    count = len(loud)
    tone = "bad" if any(each.tone == "bad" for each in loud) else "warning"
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
