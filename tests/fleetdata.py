"""A fleet put straight into the database, for the pages' tests and screenshots."""

from __future__ import annotations

import datetime
import random

from dockmesh.audit.actions import Action
from dockmesh.audit.services import Actor, record_alone
from dockmesh.core import clock
from dockmesh.fleet.models import Container, Host, HostPulse, Stack
from dockmesh.fleet.states import ContainerState, StackState

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
    _activity()


def _activity() -> None:
    ada = Actor("user", "1", "ada", "192.0.2.10")
    agent = Actor("agent", "1", "nyc-03", "192.0.2.23")
    for actor, action, kind, name in (
        (ada, Action.USER_SIGNED_IN, "user", "ada"),
        (agent, Action.HOST_ENROLLED, "host", "nyc-03"),
        (ada, Action.TOKEN_CREATED, "token", "prometheus-scraper"),
        (ada, Action.DEPLOY_REQUESTED, "stack", "shop"),
        (Actor("system", "", "dockmesh"), Action.DEPLOY_SUCCEEDED, "stack", "shop"),
        (Actor("system", "", "dockmesh"), Action.BACKUP_SUCCEEDED, "backup_job", "nightly-db"),
        (Actor("system", "", "dockmesh"), Action.ALERT_FIRED, "alert_rule", "Host offline"),
        (ada, Action.HOST_CHANGED, "host", "fra-01"),
    ):
        record_alone(actor=actor, action=action, target_kind=kind, target_id="1", target_name=name)
