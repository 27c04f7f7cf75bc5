"""The ordinary way to do the same page: the ORM counts, prometheus_client encodes and compresses.

`python -m tests.bench.ordinary FD` serves it on the listening socket FD, by dockmesh's own HTTP server and
through the same middleware and authentication, so that only the page itself differs.
"""

import gzip
import os
import socket
import sys
from collections import defaultdict
from typing import Any


def view(request: Any) -> Any:
    from django.http import HttpResponse
    from prometheus_client.exposition import choose_encoder

    from tokens import bearer
    from tokens.permissions import Permission

    bearer.authenticate(
        request.META.get("HTTP_AUTHORIZATION"), address="127.0.0.1", permission=Permission.METRICS_READ
    )
    encoder, content_type = choose_encoder(request.headers.get("Accept", ""))
    output = encoder(Collector())
    response = HttpResponse(output, content_type=content_type)
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        response = HttpResponse(gzip.compress(output), content_type=content_type)
        response["Content-Encoding"] = "gzip"
    return response


class Collector:
    """Everything counted and formatted anew at every scrape."""

    def collect(self) -> Any:
        from django.conf import settings
        from django.db.models import Count
        from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily

        from dockmesh.core import clock
        from dockmesh.fleet.histograms import DEPLOY_BUCKETS, RTT_BUCKETS
        from dockmesh.fleet.models import Container, Host, Stack, StackSeries
        from dockmesh.fleet.states import ContainerState, HostStatus, StackState

        now = clock.now()
        hosts = list(Host.objects.select_related("heartbeat_state").order_by("id"))
        statuses = dict.fromkeys(HostStatus, 0)
        offline = set()
        for host in hosts:
            if (
                now - host.heartbeat_state.last_seen_at
            ).total_seconds() > settings.DOCKMESH_HOST_OFFLINE_AFTER:
                offline.add(host.pk)
                statuses[HostStatus.OFFLINE] += 1
            else:
                statuses[HostStatus.DEGRADED if host.heartbeat_state.is_degraded else HostStatus.ONLINE] += 1
        family = GaugeMetricFamily("dockmesh_hosts_total", "Hosts by status.", labels=["status"])
        for status, count in statuses.items():
            family.add_metric([status.value], count)
        yield family
        for name, model, states in (
            ("stacks", Stack, list(StackState)),
            ("containers", Container, list(ContainerState)),
        ):
            counts: dict[tuple[int, str], int] = defaultdict(int)
            for row in model.objects.values("host_id", "state").annotate(count=Count("id")):
                state = "unknown" if row["host_id"] in offline else row["state"]
                counts[row["host_id"], state] += row["count"]
            family = GaugeMetricFamily(
                f"dockmesh_{name}_total", f"{name.capitalize()} by host and state.", labels=["host", "state"]
            )
            for host in hosts:
                for state in states:
                    family.add_metric([host.name, state.value], counts[host.pk, state.value])
            yield family
        family = GaugeMetricFamily("dockmesh_agent_last_seen_seconds", "Age.", labels=["host"])
        for host in hosts:
            family.add_metric(
                [host.name], max(0.0, (now - host.heartbeat_state.last_seen_at).total_seconds())
            )
        yield family
        histogram = HistogramMetricFamily(
            "dockmesh_deploy_duration_seconds", "Durations of deploys.", labels=["stack", "result"]
        )
        for series in StackSeries.objects.order_by("id"):
            for result in ("success", "failure"):
                histogram.add_metric(
                    [series.name, result],
                    _buckets(DEPLOY_BUCKETS, getattr(series, f"{result}_counts")),
                    getattr(series, f"{result}_sum"),
                )
        yield histogram
        histogram = HistogramMetricFamily("dockmesh_agent_rtt_seconds", "Round trips.", labels=["host"])
        for host in hosts:
            histogram.add_metric(
                [host.name],
                _buckets(RTT_BUCKETS, host.heartbeat_state.rtt_counts),
                host.heartbeat_state.rtt_sum,
            )
        yield histogram
        labels = ["host", "agent_version", "docker_version", "os", "arch", "kernel"]
        family = GaugeMetricFamily("dockmesh_host_info", "Info.", labels=labels)
        for host in hosts:
            family.add_metric(
                [host.name, host.agent_version, host.docker_version, host.os, host.arch, host.kernel], 1
            )
        yield family


def _buckets(bounds: tuple[float, ...], counts: str) -> list[tuple[str, float]]:
    from prometheus_client.utils import floatToGoString

    names = [*(floatToGoString(bound) for bound in bounds), "+Inf"]
    return [(name, float(count)) for name, count in zip(names, counts.split(","), strict=True)]


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dockmesh.settings")
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.urls import path

    settings.ROOT_URLCONF = __name__
    globals()["urlpatterns"] = [path("metrics", view)]
    from dockmesh.server.http import HTTPServer

    application = get_wsgi_application()
    server = HTTPServer(
        [socket.socket(fileno=int(sys.argv[1]))],
        application,
        threads=4,
        max_body_bytes=1 << 20,
        log=lambda _line: None,
    )
    server.run()


if __name__ == "__main__":
    main()
