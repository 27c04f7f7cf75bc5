"""A fleet put straight into the database, for the pages' tests and screenshots."""

from __future__ import annotations

import datetime
import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import msgspec
from django.db import transaction

from dockmesh.alerts import services as alerts
from dockmesh.alerts.models import AlertRule
from dockmesh.audit.actions import Action
from dockmesh.audit.services import Actor, record_alone
from dockmesh.backups import services as backups
from dockmesh.backups.models import BackupJob
from dockmesh.core import clock
from dockmesh.deploys import services as deploys
from dockmesh.fleet import commands
from dockmesh.fleet import services as fleet
from dockmesh.fleet.figures import Figures, write_figures
from dockmesh.fleet.ingest import documents
from dockmesh.fleet.models import Container, HeartbeatState, Host, HostHour, HostUsage, Stack
from dockmesh.fleet.states import ContainerState, HostWorst, StackState
from metrics.scrapelog import ScrapeLog
from tokens import services as tokens
from tokens.models import ApiToken
from tokens.principals import SYSTEM

PLACES = ("fra", "lon", "nyc", "sgp")
STACKS = ("shop", "wiki", "mail", "metrics", "gitea", "media", "queue", "search", "auth", "blog")
SERVICES = ("web", "db", "cache", "worker")


def make_fleet(
    hosts: int = 24, *, seed: int = 7, offline: int = 1, degraded: int = 1, broken: int = 2
) -> None:
    """Hosts with stacks and containers; the last ones are offline or degraded, the first stacks broken."""
    chance = random.Random(seed)
    now = clock.now()
    for number in range(hosts):
        name = f"{PLACES[number % len(PLACES)]}-{number // len(PLACES) + 1:02d}"
        is_offline = number >= hosts - offline
        is_degraded = hosts - offline - degraded <= number < hosts - offline
        host = Host.objects.create(
            name=name,
            labels={"env": "prod" if number % 3 else "staging", "region": PLACES[number % len(PLACES)]},
            address=f"{name}.example.net",
            agent_token_id=f"sim{number:09d}",
            agent_digest="0" * 64,
            agent_pepper=0,
            agent_version="0.1.0",
            docker_version="27.3.1",
            docker_error="connection refused on /var/run/docker.sock" if is_degraded else "",
            os="linux",
            arch="x86_64",
            kernel="6.1.0",
            cpus=8,
            memory_bytes=32 * 1024**3,
        )
        age = chance.uniform(1, 14) + (1800 if is_offline else 0)
        HeartbeatState.objects.create(
            host=host,
            last_seen_at=now - datetime.timedelta(seconds=age),
            is_degraded=is_degraded,
            boot_id=str(uuid.UUID(int=chance.getrandbits(128))),
            sequence=4711,
            inventory_at=now,
            rtt_counts="0,40,890,1480,1503,1507,1509,1509,1509,1509,1509,1509",
            rtt_sum=37.2,
        )
        stack_states: list[str] = []
        container_states: list[str] = []
        for stack_name in chance.sample(STACKS, chance.randint(2, 5)):
            state = StackState.RUNNING
            if number < broken and not stack_states:
                state = StackState.ERROR
            elif chance.random() < 0.04:
                state = chance.choice((StackState.STOPPED, StackState.PARTIAL, StackState.DEPLOYING))
            stack = Stack.objects.create(
                host=host,
                name=stack_name,
                state=state,
                state_changed_at=now - datetime.timedelta(minutes=chance.uniform(3, 600)),
            )
            stack_states.append(state)
            for service in SERVICES[: chance.randint(2, 4)]:
                running = state not in (StackState.STOPPED,)
                container_state = ContainerState.RUNNING if running else ContainerState.EXITED
                if state == StackState.ERROR and service == "web":
                    container_state = ContainerState.RESTARTING
                if state == StackState.PARTIAL and service == "db":
                    container_state = ContainerState.EXITED
                Container.objects.create(
                    host=host,
                    stack=stack,
                    container_id=f"{chance.getrandbits(256):064x}",
                    name=f"{stack_name}-{service}-1",
                    image=f"registry.example.net/{stack_name}/{service}:1.{chance.randint(0, 9)}",
                    service=service,
                    state=container_state,
                    health="healthy" if container_state == ContainerState.RUNNING else "",
                    created_at=now - datetime.timedelta(days=chance.uniform(2, 40)),
                    started_at=now - datetime.timedelta(hours=chance.uniform(1, 40)),
                    changed_at=now,
                    exit_code=139 if container_state == ContainerState.RESTARTING else 0,
                )
                container_states.append(container_state)
        host.stack_counts = ",".join(str(stack_states.count(state)) for state in StackState)
        host.container_counts = ",".join(str(container_states.count(state)) for state in ContainerState)
        host.save(update_fields=["stack_counts", "container_counts"])
        _hours(
            host, HostWorst.OFFLINE if is_offline else HostWorst.ERROR if number < broken else HostWorst.WELL
        )
        if not is_offline and not is_degraded:
            _usage(host)


def _hours(host: Host, latest: HostWorst) -> None:
    """A day in which one hour had something failing and the current one has the latest."""
    hour = clock.now().replace(minute=0, second=0, microsecond=0)
    worst = {0: latest, 9: HostWorst.FAILING}
    HostHour.objects.bulk_create(
        HostHour(host=host, hour=hour - datetime.timedelta(hours=ago), worst=worst.get(ago, HostWorst.WELL))
        for ago in range(24)
    )


def _usage(host: Host) -> None:
    """What its running containers use, one much more than the others."""
    chance = random.Random(host.pk)
    now = clock.now()
    figures = []
    for number, container in enumerate(Container.objects.filter(host=host, state=ContainerState.RUNNING)):
        cpu = 1.35 if number == 2 else chance.uniform(0.002, 0.2)
        memory = chance.randint(20, 900) * 1024**2
        figures.append(
            Figures(
                container.pk, round(cpu, 4), memory, cpu * 86400, 1024**3 if number % 2 else None,
                chance.randint(10**7, 10**10), chance.randint(10**7, 10**10), chance.randint(0, 10**9),
                chance.randint(10**6, 10**10), chance.randint(1, 60),
            )
        )  # fmt: skip
    machine = documents.MachineUsage(
        cpu_seconds=86400.0, memory_available_bytes=19 * 1024**3, load1=1.7,
        docker_root_bytes=500 * 10**9, docker_root_free_bytes=180 * 10**9,
    )  # fmt: skip
    disk = documents.DiskUsage(
        images=(41 * 10**9, 12 * 10**9), containers=(2 * 10**9, 10**8), volumes=(90 * 10**9, 3 * 10**9),
        build_cache=(7 * 10**9, 7 * 10**9),
    )  # fmt: skip
    HostUsage.objects.create(
        host=host, measured_at=now, version=1, machine=msgspec.json.encode(machine).decode(), containers=b"",
        sent_at=now, cpu=2.1, figures=write_figures(figures).decode(), disk=msgspec.json.encode(disk).decode(),
        disk_at=now,
    )  # fmt: skip


def make_everything() -> None:
    """A fleet with all that the other rooms keep about it: alerts, activity, tokens, scrapes."""
    make_fleet()
    with _minutes_ago(180):
        role = tokens.create_role(principal=SYSTEM, name="scraper", permissions=["metrics.read"])
        tokens.create_token(principal=SYSTEM, name="prometheus-scraper", role=role)
        tokens.create_token(principal=SYSTEM, name="deploy-bot", role="operator")
    _deploys()
    _backups()
    with _minutes_ago(42):
        alerts.create_recommended_rules(actor=ADA)
        AlertRule.objects.update(for_seconds=0)
    with _minutes_ago(24):
        alerts.evaluate()
    ApiToken.objects.filter(name="prometheus-scraper").update(
        last_used_at=clock.now(), last_used_address="192.0.2.40", last_used_user_agent="Prometheus/3.5.0"
    )
    with _minutes_ago(1):
        scrapes = ScrapeLog()
        scrapes.add(
            token_name="prometheus-scraper",
            address="192.0.2.40",
            user_agent="Prometheus/3.5.0",
            seconds=0.012,
            size=48213,
        )
        scrapes.add(
            token_name="old-scraper", address="192.0.2.41", refusal="revoked", user_agent="Prometheus/2.53.1"
        )
        scrapes.flush()
    _activity()


ADA = Actor("user", "1", "ada", "192.0.2.10")


@contextmanager
def _minutes_ago(minutes: float) -> Iterator[None]:
    at = clock.now() - datetime.timedelta(minutes=minutes)
    with mock.patch.object(clock, "now", return_value=at):
        yield


COMPOSE = """services:
  web:
    image: registry.example.net/shop/web:1.7
    ports: ["8080:8080"]
    environment: ["DATABASE_URL=${DATABASE_URL}"]
  db:
    image: registry.example.net/shop/db:1.4
    volumes: ["rows:/var/lib/postgresql/data"]
volumes:
  rows: {}
"""
PULLED = """Pulling web (registry.example.net/shop/web:1.7)
Creating network "shop_default" with the default driver
Creating shop-db-1  ... done
Creating shop-web-1 ... done
"""


def _deploys() -> None:
    """Three managed stacks: deployed, failed at last, and being deployed."""
    stacks = list(Stack.objects.filter(state=StackState.RUNNING).select_related("host").order_by("pk")[:3])
    for stack, results in zip(
        stacks, (["success", "success"], ["success", "failure"], ["success", ""]), strict=True
    ):
        with _minutes_ago(300):
            deploys.adopt_stack(
                actor=ADA, stack_id=stack.pk, compose_file=COMPOSE, env_file="DATABASE_URL=postgres://shop\n"
            )
        for age, result in zip((280, 17), results, strict=True):
            with _minutes_ago(age if result else 0.2):
                deploys.request_deploy(actor=ADA, stack_id=stack.pk)
                _carry_out(stack.host, result, PULLED, 21.4)


def _backups() -> None:
    """A job that works, and one that failed last night."""
    hosts = Host.objects.order_by("pk")[:2]
    for host, name, result in zip(
        hosts, ("nightly-shop", "nightly-wiki"), ("success", "failure"), strict=True
    ):
        with _minutes_ago(2000):
            job = backups.create_job(
                actor=ADA,
                host_id=host.pk,
                name=name,
                stack_name=name.removeprefix("nightly-"),
                repository="offsite",
                schedule="0 3 * * *",
                time_zone="Europe/Berlin",
            )
        for age in (1900, 460):
            with _minutes_ago(age):
                backups.run_now(actor=ADA, job_id=job.pk)
                _carry_out(host, "success" if age == 1900 else result, "processed 1840 files\n", 73.1)
    BackupJob.objects.update(next_run_at=clock.now() + datetime.timedelta(hours=8))


def _carry_out(host: Host, result: str, output: str, seconds: float) -> None:
    """As the host's agent would; without a result it is left running."""
    with transaction.atomic():
        fleet.lock_host(host.pk)
        offered = commands.hand_out(host.pk, now=clock.now()).offers
        progress = commands.CommandProgress(output[:60], 1.0)
        commands.note_progress(host.pk, [(command["id"], progress) for command in offered])
    if not result:
        return
    document = {
        "result": result, "snapshot_id": "5f3a9c1e" * 8, "bytes_added": 48_234_496, "bytes_processed": 2**33,
        "files": 1840,
    }  # fmt: skip
    error = "" if result == "success" else "ended with exit code 1"
    for command in offered:
        commands.finish(
            host_id=host.pk,
            key=command["id"],
            result=commands.CommandResult(
                result == "success", seconds, int(bool(error)), output, error, document
            ),
        )


def _activity() -> None:
    agent = Actor("agent", "1", "nyc-03", "192.0.2.23")
    system = Actor("system", "", "dockmesh")
    for minutes, actor, action, kind, name in (
        (21, agent, Action.HOST_ENROLLED, "host", "nyc-03"),
        (17, ADA, Action.USER_SIGNED_IN, "user", "ada"),
        (12, ADA, Action.DEPLOY_REQUESTED, "stack", "shop"),
        (11.6, system, Action.DEPLOY_SUCCEEDED, "stack", "shop"),
        (9, ADA, Action.HOST_CHANGED, "host", "fra-01"),
        (4, system, Action.BACKUP_SUCCEEDED, "backup_job", "nightly-db"),
    ):
        with _minutes_ago(minutes):
            record_alone(actor=actor, action=action, target_kind=kind, target_id="1", target_name=name)
