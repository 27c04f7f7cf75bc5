"""Rows of a fleet for the tests of the page, made directly: the exposition reads rows, whoever wrote them."""

import datetime

from msgspec import UNSET

from dockmesh.alerts.models import Alert, AlertRule, Channel
from dockmesh.backups.models import BackupJob
from dockmesh.deploys.models import Deploy
from dockmesh.fleet.ingest.documents import ContainerUsage, DiskUsage, MachineUsage, Usage
from dockmesh.fleet.ingest.usage import Used, write_usage
from dockmesh.fleet.models import (
    AgentCommand,
    Container,
    ContainerCounts,
    HeartbeatState,
    Host,
    ImageCheck,
    Stack,
    StackSeries,
)
from metrics.models import ApiRequestCount, EventCount

NOW = datetime.datetime(2026, 11, 22, 12, 0, 0, tzinfo=datetime.UTC)


def ago(seconds):
    return NOW - datetime.timedelta(seconds=seconds)


def host(
    name, *, seen=5.0, containers="0,0,0,0,0,0,0,0", stacks="0,0,0,0,0,0", degraded=False, **heartbeat_state
):
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
    HeartbeatState.objects.create(host=row, last_seen_at=ago(seen), is_degraded=degraded, **heartbeat_state)
    return row


def change(row, **columns):
    """Change a host's columns as every service does: with a new version."""
    Host.objects.filter(pk=row.pk).update(**columns)
    heartbeat_state = HeartbeatState.objects.get(pk=row.pk)
    HeartbeatState.objects.filter(pk=row.pk).update(version=heartbeat_state.version + 1)


def stack(host, name, state="running", **columns):
    return Stack.objects.create(host=host, name=name, state=state, state_changed_at=NOW, **columns)


def container(host, name, state="running", **columns):
    """A container of the host; of a stack where one is given."""
    number = Container.objects.count() + 1
    columns = {"container_id": f"{number:064d}", "image": "nginx:1.27", "created_at": ago(7200)} | columns
    return Container.objects.create(host=host, name=name, state=state, changed_at=NOW, **columns)


def usage(row, *, machine=None, containers=(), disk=None):
    """What the host uses by a heartbeat that has just come; of each container its row and the twelve numbers."""
    told = Usage(
        host=MachineUsage(**(machine or {})),
        containers=[ContainerUsage(each.container_id, *numbers) for each, numbers in containers],
        disk=UNSET if disk is None else DiskUsage(**disk),
    )
    version = HeartbeatState.objects.get(pk=row.pk).version
    write_usage([Used(row.pk, version, NOW, told)], NOW)


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
    main = host(
        'db "main" \\ Zürich\n2', seen=12.5, degraded=True, containers="0,0,0,1,0,0,1,0", stacks="0,0,0,1,0,0"
    )
    edge = host("edge", seen=600, containers="1,2,0,0,0,3,0,0", stacks="1,1,0,0,0,0")
    Host.objects.filter(pk=web.pk).update(
        labels={"site": "fra", "env.tier": "prod", "env-tier": 'p"1'}, cpus=4, memory_bytes=8 << 30
    )
    shop = stack(web, "shop", is_managed=True, last_deploy_at=ago(90.5), last_deploy_result="failure")
    stack(main, 'odd "\\', "error")
    digest = "sha256:" + "ab" * 32
    shop_web = container(
        web,
        "shop-web-1",
        stack=shop,
        service="web",
        health="healthy",
        image_digest=digest,
        started_at=ago(90.25),
    )
    shop_job = container(
        web, "shop-job-1", "exited", stack=shop, service="job", exit_code=3, started_at=ago(60)
    )
    ContainerCounts.objects.create(
        host=web, name="shop-job-1", restarts=4, successes=1, errors=5, oom_kills=2
    )
    ContainerCounts.objects.create(host=web, name="gone", restarts=9)
    container(web, "never", "created")
    container(web, "by-hand", "exited", stack=shop, service="web", is_oneoff=True)
    for image, is_new in (("registry.example/shop/web:1", True), ("redis:7", False), ("private:1", None)):
        ImageCheck.objects.create(host=web, image=image, is_update_available=is_new, checked_at=ago(3600))
    ImageCheck.objects.create(host=edge, image="redis:7", is_update_available=True, checked_at=ago(7200))
    odd = container(web, 'quo"te\\\n', "paused", started_at=ago(70))
    container(main, 'quo"te\\', "restarting", exit_code=137, is_oom_killed=True, started_at=ago(5))
    lost = container(
        edge, "lost", stack=stack(edge, "shop"), service="web", health="unhealthy", started_at=ago(900)
    )
    busy = (12.5, 3.25, 0.5, 734003200, 1 << 30, 5_000_000_000, 40_000_000, 1, 2, 4096, 8192, 17)
    quiet = (0.0, 1e-07, None, 4096, None, None, None, None, None, None, None, 1)
    usage(
        web,
        machine={
            "cpu_seconds": 86400.25,
            "memory_available_bytes": 6 << 30,
            "load1": 0.75,
            "docker_root_bytes": 500_000_000_000,
            "docker_root_free_bytes": 123_456_789_012,
        },
        containers=[(shop_web, busy), (shop_job, busy), (odd, quiet)],
        disk={
            "images": (9_000_000_000, 4_000_000_000),
            "containers": (1_000_000, 0),
            "volumes": (70_000_000_000, None),
            "each_volume": {'pg "data"\\': 65_000_000_000, "cache": 0},
        },
    )
    usage(main, machine={"load1": 3.5}, containers=[])
    usage(edge, machine={"load1": 9.5}, containers=[(lost, busy)])
    StackSeries.objects.create(
        name="shop",
        success_counts="0,0,1,3,3,3,4,4,4,4,4,4,4",
        success_sum=57.5,
        failure_counts="0,0,0,0,0,0,0,0,0,0,0,0,1",
        failure_sum=2000.25,
        success_exemplar="17 4.25 1763800000.125",
        failure_exemplar="18 2000.25 1763800100.5",
    )
    StackSeries.objects.create(name="blog")
    deploy = Deploy.objects.create(
        stack_name="shop", host_name="web-1", requested_by="ada", requested_at=ago(9)
    )
    Deploy.objects.create(
        stack_name="blog", host_name="web-1", requested_by="ada", requested_at=ago(9), operation="preview"
    )
    Deploy.objects.filter(pk=deploy.pk).update(status="running")
    BackupJob.objects.create(
        name="nightly",
        host=web,
        repository="offsite",
        last_success_at=ago(3600),
        last_duration_seconds=42.5,
        success_count=7,
        partial_count=1,
        failure_count=2,
        last_attempt_at=ago(1800),
        next_run_at=ago(-3600),
        last_verified_at=ago(86400),
        last_bytes=5_000_000_000,
        last_added_bytes=1_000_000,
        last_files=12_345,
    )
    BackupJob.objects.create(name="new", host=web)
    BackupJob.objects.create(name="paused", host=web, is_enabled=False)
    offline = AlertRule.objects.create(name="Host is offline", severity="critical", fired_count=3)
    for key, status in (("1", "pending"), ("2", "firing"), ("3", "firing"), ("4", "resolved")):
        Alert.objects.create(rule=offline, key=key, severity="critical", status=status, active_since=ago(60))
    Channel.objects.create(name="pager", sent_count=5, failed_count=2, dropped_count=1)
    Channel.objects.create(name="chat")
    AlertRule.objects.create(name="Quiet", severity="info")
    EventCount.objects.create(event="heartbeats", result="accepted", count=1234)
    EventCount.objects.create(event="scrapes", result="refused", count=3)
    for number, status in enumerate(["queued", "queued", "handed_out", "done"]):
        command = AgentCommand.objects.create(host=web, kind="deploy", number=number, status=status)
        AgentCommand.objects.filter(pk=command.pk).update(created_at=ago(10 * (number + 1)))
    ApiRequestCount.objects.create(method="GET", path="/api/v1/hosts/{id}", status=200, count=12)
    ApiRequestCount.objects.create(method="other", path="unmatched", status=404, count=1)
