"""Rows of a fleet for the tests of the page, made directly: the exposition reads rows, whoever wrote them."""

import datetime

from dockmesh.alerts.models import AlertRule
from dockmesh.backups.models import BackupJob
from dockmesh.fleet.models import Host, HostPulse, StackSeries
from metrics.models import ApiRequestCount

NOW = datetime.datetime(2026, 11, 22, 12, 0, 0, tzinfo=datetime.UTC)


def ago(seconds):
    return NOW - datetime.timedelta(seconds=seconds)


def host(name, *, seen=5.0, containers="0,0,0,0,0,0,0,0", stacks="0,0,0,0,0,0", degraded=False, **pulse):
    row = Host.objects.create(
        name=name,
        agent_token_id=f"{Host.objects.count():012d}",
        agent_pepper=1,
        container_counts=containers,
        stack_counts=stacks,
        agent_version="0.1.0",
        docker_version="24.0.7",
        os="linux",
        arch="x86_64",
        kernel="6.1.0-18-amd64",
    )
    HostPulse.objects.create(host=row, last_seen_at=ago(seen), is_degraded=degraded, **pulse)
    return row


def change(row, **columns):
    """Change a host's columns as every service does: with a new version."""
    Host.objects.filter(pk=row.pk).update(**columns)
    pulse = HostPulse.objects.get(pk=row.pk)
    HostPulse.objects.filter(pk=row.pk).update(version=pulse.version + 1)


def small_fleet():
    """A host of every status, names that need escaping, and something in every family."""
    web = host(
        "web-1",
        seen=5.25,
        containers="0,7,1,0,0,2,0,0",
        stacks="2,0,1,0,0,0",
        rtt_counts="0,0,3,3,4,4,4,4,4,4,4,4",
        rtt_sum=0.125,
    )
    host(
        'db "main" \\ Zürich\n2', seen=12.5, degraded=True, containers="0,0,0,1,0,0,1,0", stacks="0,0,0,1,0,0"
    )
    host("edge", seen=600, containers="1,2,0,0,0,3,0,0", stacks="1,1,0,0,0,0")
    StackSeries.objects.create(
        name="shop",
        success_counts="0,0,1,3,3,3,4,4,4,4,4,4,4",
        success_sum=57.5,
        failure_counts="0,0,0,0,0,0,0,0,0,0,0,0,1",
        failure_sum=2000.25,
    )
    StackSeries.objects.create(name="blog")
    BackupJob.objects.create(name="nightly", host=web, last_success_at=ago(3600), last_duration_seconds=42.5)
    BackupJob.objects.create(name="new", host=web)
    BackupJob.objects.create(name="paused", host=web, is_enabled=False)
    AlertRule.objects.create(name="Host is offline", severity="critical", fired_count=3)
    AlertRule.objects.create(name="Quiet", severity="info")
    ApiRequestCount.objects.create(method="GET", path="/api/v1/hosts/{id}", status=200, count=12)
    ApiRequestCount.objects.create(method="other", path="unmatched", status=404, count=1)
