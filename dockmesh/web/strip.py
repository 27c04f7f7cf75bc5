"""The strip: a cell for each host, in the colour and the shape of the worst that is on it; grouped by a label if wanted."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.urls import reverse

from dockmesh.fleet.selectors.summary import HostMark
from dockmesh.web import text

# Labels that are offered, those first that most hosts have; and groups that are shown one by one.
MOST_LABELS = 8
MOST_GROUPS = 40
WITHOUT = "without"
OTHERS = "others"


@dataclass(frozen=True)
class Cell:
    """One host; `css` is its colour and shape."""

    id: int
    css: str
    words: str
    url: str


@dataclass(frozen=True)
class Group:
    """The hosts with one value of the label; all of them, without a name, if no label was chosen."""

    name: str
    cells: tuple[Cell, ...]


def label_names(hosts: Iterable[HostMark]) -> list[str]:
    """The labels to group by."""
    counts = Counter(name for host in hosts for name in host.labels)
    return sorted(name for name, _ in counts.most_common(MOST_LABELS))


def groups(hosts: Sequence[HostMark], now: datetime.datetime, *, by: str) -> list[Group]:
    """The cells in their groups: by the label's value, those without it last."""
    if not by:
        return [Group("", _cells(hosts, now))] if hosts else []
    counts = Counter(host.labels[by] for host in hosts if by in host.labels)
    kept = {value for value, _ in counts.most_common(MOST_GROUPS)}
    by_value: dict[tuple[int, str], list[HostMark]] = {}
    for host in hosts:
        value = host.labels.get(by)
        if value is None:
            key = (2, f"{WITHOUT} {by}")
        elif value in kept:
            key = (0, f"{by}={value}")
        else:
            key = (1, OTHERS)
        by_value.setdefault(key, []).append(host)
    return [Group(name, _cells(own, now)) for (_, name), own in sorted(by_value.items())]


def _cells(hosts: Iterable[HostMark], now: datetime.datetime) -> tuple[Cell, ...]:
    base = reverse("fleet:host", args=[0])
    return tuple(Cell(host.id, *_looks(host, now), base.replace("/0/", f"/{host.id}/")) for host in hosts)


def _looks(host: HostMark, now: datetime.datetime) -> tuple[str, str]:
    """The worst that is on it, and all of that in words."""
    seen = f"last seen {text.ago(host.last_seen_at, now)}" if host.last_seen_at else "never reported"
    words = [f"{host.name}: {host.status}", seen]
    if host.containers_failing:
        words.append(f"{_counted(host.containers_failing, 'container')} failing")
    if host.stacks_in_error:
        words.append(f"{_counted(host.stacks_in_error, 'stack')} in error")
    return host.worst or "unknown", ", ".join(words)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
