"""The last day of each host, hour by hour: the worst that was seen of it, looked at once a minute.

An hour in which nobody looked has no row: nobody knows how it was.
"""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from django.db import transaction

from dockmesh.core import clock
from dockmesh.fleet.models import HostHour
from dockmesh.fleet.selectors import summary
from dockmesh.fleet.states import HostWorst

HOURS = 24
HOUR = datetime.timedelta(hours=1)
AT_ONCE = 500

_ORDER = {worst: place for place, worst in enumerate(HostWorst)}


@dataclass(frozen=True)
class Hour:
    """One hour of a host; `worst` is None where nobody looked."""

    begins: datetime.datetime
    worst: HostWorst | None

    @property
    def ends(self) -> datetime.datetime:
        """The begin of the next one."""
        return self.begins + HOUR


def note() -> None:
    """The scheduler's job, every minute: what is worse now than in this hour before. 24 rows for each host at most."""
    now = clock.now()
    hour = _hour_of(now)
    known = dict(HostHour.objects.filter(hour=hour).values_list("host_id", "worst"))
    fresh: list[HostHour] = []
    worse: dict[HostWorst, list[int]] = {}
    for host in summary.fleet_summary(now).hosts:
        worst = host.worst
        if worst is None:
            continue
        before = known.get(host.id)
        if before is None:
            fresh.append(HostHour(host_id=host.id, hour=hour, worst=worst))
        elif _ORDER[worst] > _ORDER[HostWorst(before)]:
            worse.setdefault(worst, []).append(host.id)
    with transaction.atomic():
        HostHour.objects.bulk_create(fresh, batch_size=AT_ONCE, ignore_conflicts=True)
        for worst, ids in worse.items():
            for part in _parts(ids):
                HostHour.objects.filter(hour=hour, host_id__in=part).update(worst=worst)
    HostHour.objects.filter(hour__lte=hour - HOURS * HOUR).delete()


def of_host(host_id: int, now: datetime.datetime) -> list[Hour]:
    """The last 24 hours, the oldest first, the current one last; one query."""
    first = _hour_of(now) - (HOURS - 1) * HOUR
    rows = HostHour.objects.filter(host_id=host_id, hour__gte=first)
    known = {hour: HostWorst(worst) for hour, worst in rows.values_list("hour", "worst")}
    hours = [first + place * HOUR for place in range(HOURS)]
    return [Hour(begins, known.get(begins)) for begins in hours]


def _hour_of(moment: datetime.datetime) -> datetime.datetime:
    return moment.astimezone(datetime.UTC).replace(minute=0, second=0, microsecond=0)


def _parts(ids: list[int]) -> Iterable[list[int]]:
    return (ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE))
