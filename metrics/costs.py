"""What a scrape of each group costs now: series, size and time, for who chooses among them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from metrics import rendering
from metrics.groups import ALL, DESCRIPTIONS, Group

_LONGEST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class FamilyCost:
    """A family, and how many lines it has on the page."""

    name: str
    series: int


@dataclass(frozen=True, slots=True)
class GroupCost:
    """A group: its families in the order of the page, their series, what goes over the wire, what the collectors took.

    A collector with families in two groups counts in both.
    """

    group: Group
    description: str
    families: Sequence[FamilyCost]
    series: int
    compressed_bytes: int
    seconds: float


def of_groups() -> list[GroupCost]:
    """Of every group, by a rendering of all of them that begins now.

    Raises `metrics.rendering.DatabaseAway`, or `metrics.singleflight.TimedOut`.
    """
    found = rendering.renderer.rendering(ALL, since=time.monotonic(), timeout_seconds=_LONGEST_SECONDS)
    return [_of_group(found, group) for group in Group]


def _of_group(found: rendering.Rendering, group: Group) -> GroupCost:
    page = found.page(frozenset({group}))
    families = [
        FamilyCost(section.family.name, sum(fragment.text.count(b"\n") for fragment in section.fragments))
        for section in page.sections
    ]
    return GroupCost(
        group,
        DESCRIPTIONS[group],
        families,
        sum(family.series for family in families),
        page.body(openmetrics=True, gzip=True).length,
        found.seconds(group),
    )
