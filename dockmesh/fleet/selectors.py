"""Reading the fleet, for other rooms. The rows for /metrics are plain tuples: they are read at every scrape."""

import datetime
from collections.abc import Sequence

from django.conf import settings

from dockmesh.fleet.models import Host, HostPulse, StackSeries

PulseRow = tuple[int, int, datetime.datetime, bool, str, float, float]
HostRow = tuple[int, str, str, str, str, str, str, str, str]
StackSeriesRow = tuple[int, str, int, str, float, str, float]


def offline_before(now: datetime.datetime) -> datetime.datetime:
    """A host that was last seen before this moment is offline."""
    return now - datetime.timedelta(seconds=settings.DOCKMESH_HOST_OFFLINE_AFTER)


def pulse_rows() -> list[PulseRow]:
    """(host id, version, last seen at, is degraded, rtt counts, rtt sum, clock skew) of every host; one query.

    `version` rises with every change of what `host_rows` gives for the host or of `is degraded`.
    """
    return list(
        HostPulse.objects.order_by("host_id").values_list(
            "host_id",
            "version",
            "last_seen_at",
            "is_degraded",
            "rtt_counts",
            "rtt_sum",
            "clock_skew_seconds",
        )
    )


def host_rows(host_ids: Sequence[int] | None = None) -> list[HostRow]:
    """(id, name, container counts, stack counts, agent version, docker version, os, arch, kernel) of hosts.

    Counts are texts in the order of the states. All hosts where `host_ids` is None; one query.
    """
    rows = Host.objects.all() if host_ids is None else Host.objects.filter(pk__in=host_ids)
    return list(
        rows.order_by("id").values_list(
            "id",
            "name",
            "container_counts",
            "stack_counts",
            "agent_version",
            "docker_version",
            "os",
            "arch",
            "kernel",
        )
    )


def stack_series_versions() -> list[tuple[int, int]]:
    """(id, version) of every stack name's series; one query."""
    return list(StackSeries.objects.order_by("id").values_list("id", "version"))


def stack_series_rows(series_ids: Sequence[int] | None = None) -> list[StackSeriesRow]:
    """(id, name, version, success counts, success sum, failure counts, failure sum); one query."""
    rows = StackSeries.objects.all() if series_ids is None else StackSeries.objects.filter(pk__in=series_ids)
    return list(
        rows.order_by("id").values_list(
            "id", "name", "version", "success_counts", "success_sum", "failure_counts", "failure_sum"
        )
    )
