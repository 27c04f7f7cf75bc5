"""When containers restarted: marks of their restart counts, kept for as long as any window may reach back.

Docker gives a count only, not the times. A mark is written when an evaluation sees the count risen.
"""

import datetime
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from dockmesh.alerts.models import RestartMark
from dockmesh.fleet.watch import ContainerFact, HostFact

LONGEST_WINDOW_SECONDS = 86_400
# A host that came this shortly before the last look may not have reported its containers by then.
SETTLING = datetime.timedelta(seconds=60)
# The mark of no container: when the restarts were last looked at.
LOOKED: dict[str, Any] = {"host_id": 0, "container_id": ""}


@transaction.atomic
def mark(*, containers: list[ContainerFact], hosts: Mapping[int, HostFact], now: datetime.datetime) -> None:
    """Write what has risen since the last look, and drop what no window reaches back to.

    A container without a mark had no restart at the last look, unless its host is new or nobody has looked
    yet: then what it had before is not held against it.
    """
    looked = RestartMark.objects.filter(**LOOKED).first()
    latest: dict[tuple[int, str], int] = {}
    for host_id, container_id, count in (
        RestartMark.objects.exclude(**LOOKED)
        .order_by("at", "id")
        .values_list("host_id", "container_id", "restart_count")
    ):
        latest[host_id, container_id] = count
    marks = []
    for container in containers:
        key = (container.host_id, container.container_id)
        count = container.restart_count
        known = latest.get(key)
        host = hosts.get(container.host_id)
        if known is None and looked is not None and host and host.enrolled_at < looked.at - SETTLING:
            marks.append(RestartMark(host_id=key[0], container_id=key[1], restart_count=0, at=looked.at))
        if known != count:
            marks.append(RestartMark(host_id=key[0], container_id=key[1], restart_count=count, at=now))
    RestartMark.objects.bulk_create(marks)
    RestartMark.objects.update_or_create(**LOOKED, defaults={"restart_count": 0, "at": now})
    _drop(containers, now)


def counts_at(moment: datetime.datetime) -> dict[tuple[int, str], int]:
    """The restart count of each container at `moment`; where its first mark is later, of that mark."""
    counts: dict[tuple[int, str], int] = {}
    rows = RestartMark.objects.exclude(**LOOKED).order_by("at", "id")
    for host_id, container_id, count, at in rows.values_list(
        "host_id", "container_id", "restart_count", "at"
    ):
        if at <= moment or (host_id, container_id) not in counts:
            counts[host_id, container_id] = count
    return counts


def _drop(containers: list[ContainerFact], now: datetime.datetime) -> None:
    """Marks of containers that are gone go; of the old ones of a container the newest stays as its base."""
    start = now - datetime.timedelta(seconds=LONGEST_WINDOW_SECONDS)
    present = {(container.host_id, container.container_id) for container in containers}
    stale: list[int] = []
    base: dict[tuple[int, str], int] = {}
    rows = RestartMark.objects.exclude(**LOOKED).order_by("at", "id")
    for pk, host_id, container_id, at in rows.values_list("id", "host_id", "container_id", "at"):
        key = (host_id, container_id)
        if key not in present:
            stale.append(pk)
        elif at <= start:
            if key in base:
                stale.append(base[key])
            base[key] = pk
    RestartMark.objects.filter(pk__in=stale).delete()
