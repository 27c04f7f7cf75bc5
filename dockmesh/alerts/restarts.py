"""When containers restarted: marks of their restart counts, kept for as long as any window may reach back.

Docker gives a count only, not the times. A mark is written when an evaluation sees the count risen. What rose while
nobody looked, or while the host was not heard, rose nobody knows when: it is not held against the container.
"""

import datetime
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from dockmesh.alerts.models import RestartMark
from dockmesh.fleet.selectors.subjects import ContainerFact, HostFact

LONGEST_WINDOW_SECONDS = 86_400
# A host that came this shortly before the last look may not have reported its containers by then.
SETTLING = datetime.timedelta(seconds=60)
# Between two looks; after a longer pause nothing is known of the time in between.
LONGEST_PAUSE = datetime.timedelta(minutes=2)
# The mark of no container: when the restarts were last looked at.
LOOKED: dict[str, Any] = {"host_id": 0, "container_id": ""}


@transaction.atomic
def mark(*, containers: list[ContainerFact], hosts: Mapping[int, HostFact], now: datetime.datetime) -> None:
    """Write what has risen since the last look, and drop what no window reaches back to.

    A container without a mark had no restart at the last look, unless its host is new or nobody has looked
    yet: then what it had before is not held against it. A host that is silent has a mark without a container; with
    its first report after that its containers begin anew.
    """
    looked = RestartMark.objects.filter(**LOOKED).first()
    if looked is not None and now - looked.at > LONGEST_PAUSE:
        RestartMark.objects.all().delete()
        looked = None
    returned = _forget_who_was_silent(hosts, now)
    latest: dict[tuple[int, str], int] = {}
    for host_id, container_id, count in _container_marks().values_list(
        "host_id", "container_id", "restart_count"
    ):
        latest[host_id, container_id] = count
    marks = []
    for container in containers:
        key = (container.host_id, container.container_id)
        count = container.restart_count
        known = latest.get(key)
        host = hosts.get(container.host_id)
        is_known = known is not None or container.host_id in returned
        if not is_known and looked is not None and host and host.enrolled_at < looked.at - SETTLING:
            marks.append(RestartMark(host_id=key[0], container_id=key[1], restart_count=0, at=looked.at))
        if known != count:
            marks.append(RestartMark(host_id=key[0], container_id=key[1], restart_count=count, at=now))
    RestartMark.objects.bulk_create(marks)
    RestartMark.objects.update_or_create(**LOOKED, defaults={"restart_count": 0, "at": now})
    _drop(containers, now)


def counts_at(moment: datetime.datetime) -> dict[tuple[int, str], int]:
    """The restart count of each container at `moment`; where its first mark is later, of that mark."""
    counts: dict[tuple[int, str], int] = {}
    rows = _container_marks().values_list("host_id", "container_id", "restart_count", "at")
    for host_id, container_id, count, at in rows:
        if at <= moment or (host_id, container_id) not in counts:
            counts[host_id, container_id] = count
    return counts


def _drop(containers: list[ContainerFact], now: datetime.datetime) -> None:
    """Marks of containers that are gone go; of the old ones of a container the newest stays as its base."""
    start = now - datetime.timedelta(seconds=LONGEST_WINDOW_SECONDS)
    present = {(container.host_id, container.container_id) for container in containers}
    stale: list[int] = []
    base: dict[tuple[int, str], int] = {}
    for pk, host_id, container_id, at in _container_marks().values_list(
        "id", "host_id", "container_id", "at"
    ):
        key = (host_id, container_id)
        if key not in present:
            stale.append(pk)
        elif at <= start:
            if key in base:
                stale.append(base[key])
            base[key] = pk
    RestartMark.objects.filter(pk__in=stale).delete()


def _container_marks() -> QuerySet[RestartMark]:
    return RestartMark.objects.exclude(container_id="").order_by("at", "id")


def _forget_who_was_silent(hosts: Mapping[int, HostFact], now: datetime.datetime) -> set[int]:
    """Begin anew with the hosts that are heard again, which are returned, and remember those that are silent."""
    silent = {host.id for host in hosts.values() if host.last_seen_at and now - host.last_seen_at > SETTLING}
    were_silent = set(
        RestartMark.objects.filter(container_id="", host_id__gt=0).values_list("host_id", flat=True)
    )
    returned = were_silent - silent
    RestartMark.objects.filter(host_id__in=returned).delete()
    RestartMark.objects.bulk_create(
        RestartMark(host_id=host_id, container_id="", restart_count=0, at=now)
        for host_id in silent - were_silent
    )
    return returned
