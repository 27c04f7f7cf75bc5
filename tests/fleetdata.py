"""A fleet put straight into the database, for the pages' tests and screenshots."""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from dockmesh.alerts import services as alerts
from dockmesh.alerts.models import AlertRule
from dockmesh.audit.actions import Action
from dockmesh.audit.services import Actor, record_alone
from dockmesh.core import clock
from dockmesh.fleet.models import Container, Host, HostPulse, Stack
from dockmesh.fleet.states import ContainerState, StackState
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
        HostPulse.objects.create(
            host=host, last_seen_at=now - datetime.timedelta(seconds=age), is_degraded=is_degraded
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
                    changed_at=now,
                )
                container_states.append(container_state)
        host.stack_counts = ",".join(str(stack_states.count(state)) for state in StackState)
        host.container_counts = ",".join(str(container_states.count(state)) for state in ContainerState)
        host.save(update_fields=["stack_counts", "container_counts"])


def make_everything() -> None:
    """A fleet with all that the other rooms keep about it: alerts, activity, tokens, scrapes."""
    make_fleet()
    with _minutes_ago(180):
        role = tokens.create_role(principal=SYSTEM, name="scraper", permissions=["metrics.read"])
        tokens.create_token(principal=SYSTEM, name="prometheus-scraper", role=role)
        tokens.create_token(principal=SYSTEM, name="deploy-bot", role="operator")
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
