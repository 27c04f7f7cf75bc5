"""What happens on simulated hosts: containers start, crash, restart, sicken and are stopped.

All of it follows from the seed and from the seconds that pass, so that two runs with one seed look alike.
"""

import datetime
import hashlib
import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dockmesh.core.datetimes import utc_text
from dockmesh.fleet.simulation.usage import Machine

# (service, image, has a health check) of each stack.
STACKS: dict[str, tuple[tuple[str, str, bool], ...]] = {
    "shop": (
        ("web", "nginx:1.27", True),
        ("api", "ghcr.io/acme/shop-api:4.2.1", True),
        ("worker", "ghcr.io/acme/shop-worker:4.2.1", False),
        ("db", "postgres:16", True),
        ("cache", "redis:7.4", False),
    ),
    "wiki": (("app", "outlinewiki/outline:0.81.0", True), ("db", "postgres:16", True)),
    "monitoring": (
        ("prometheus", "prom/prometheus:v3.0.1", False),
        ("grafana", "grafana/grafana:11.3.1", True),
        ("loki", "grafana/loki:3.3.0", False),
    ),
    "gitea": (("server", "gitea/gitea:1.22", True), ("db", "mariadb:11.4", True)),
    "mail": (
        ("smtp", "boky/postfix:4.3.0", False),
        ("imap", "dovecot/dovecot:2.3.21", False),
        ("filter", "rspamd/rspamd:3.10", True),
    ),
    "media": (("jellyfin", "jellyfin/jellyfin:10.10", True), ("transcoder", "linuxserver/ffmpeg:7.1", False)),
    "queue": (
        ("broker", "rabbitmq:4.0-management", True),
        ("consumer", "ghcr.io/acme/consumer:2.0.3", False),
    ),
    "search": (
        ("engine", "getmeili/meilisearch:v1.11", True),
        ("indexer", "ghcr.io/acme/indexer:1.4", False),
    ),
}
ROLES = ("web", "db", "edge", "build", "media", "mail")

# How often something happens, as the mean of seconds until it does, and how long it lasts.
CRASH_EVERY, CRASHED_FOR = 3600.0, (10.0, 60.0)
SICK_EVERY, SICK_FOR = 7200.0, (30.0, 120.0)
STOP_EVERY, STOPPED_FOR = 14_400.0, (60.0, 600.0)
SILENT_EVERY, SILENT_FOR = 2400.0, (90.0, 240.0)
DOCKER_DOWN_EVERY, DOCKER_DOWN_FOR = 7200.0, (30.0, 90.0)
DISK_EVERY = 300.0

_SERVICES = re.compile(r"^services:[ \t]*\n((?:[ \t]+.*\n?|\n)+)", re.MULTILINE)
_SERVICE = re.compile(r"^ {2}([A-Za-z0-9._-]+):", re.MULTILINE)


@dataclass(slots=True)
class Container:
    """A simulated container; `trouble_ends` is when what is wrong with it passes, in the host's seconds."""

    id: str
    name: str
    image: str
    stack: str
    service: str
    has_health_check: bool
    created_at: str
    started_at: str
    state: str = "running"
    health: str = ""
    exit_code: int = 0
    is_oom_killed: bool = False
    restart_count: int = 0
    restart_policy: str = "unless-stopped"
    trouble_ends: float | None = None

    def document(self) -> dict[str, Any]:
        """As the inventory has it."""
        return {
            "id": self.id,
            "name": self.name,
            "image": self.image,
            "state": self.state,
            "health": self.health,
            "exit_code": self.exit_code,
            "oom_killed": self.is_oom_killed,
            "restart_count": self.restart_count,
            "restart_policy": self.restart_policy,
            "is_oneoff": False,
            "stop_signal": "SIGTERM",
            "error": "",
            "stack": self.stack,
            "service": self.service,
            "created_at": self.created_at,
            "started_at": self.started_at,
        }

    def end(self, exit_code: int, *, is_oom_killed: bool = False) -> None:
        """The process has ended."""
        self.state, self.exit_code, self.is_oom_killed = "exited", exit_code, is_oom_killed
        self.health = "unhealthy" if self.has_health_check else ""

    def start(self, at: str) -> None:
        """The process runs, from now on."""
        self.state, self.exit_code, self.is_oom_killed, self.started_at = "running", 0, False, at
        self.health = "healthy" if self.has_health_check else ""
        self.trouble_ends = None

    def act(self, action: str) -> str:
        """Start, stop, restart or kill it; what came of it, in a word."""
        is_up = self.state == "running"
        if action == "start" and is_up:
            return "already running"
        if action == "stop" and not is_up:
            return "already stopped"
        if action in ("start", "restart"):
            self.start(moment())
            return f"{action}ed"
        self.end(143 if action == "stop" else 137)
        self.trouble_ends = None
        return "stopped" if action == "stop" else "killed"

    def details(self) -> dict[str, Any]:
        """What an agent tells of it on demand."""
        labels = [["com.docker.compose.project", self.stack], ["com.docker.compose.service", self.service]]
        return {
            "exits": [],
            "health": {"status": self.health, "failing_streak": 0, "looks": []} if self.health else None,
            "restart_policy": self.restart_policy,
            "log_driver": "json-file",
            "image_id": f"sha256:{self.id}",
            "image_digests": [],
            "ports": [],
            "mounts": [],
            "networks": [{"name": f"{self.stack or 'bridge'}_default", "address": ""}],
            "labels": labels if self.stack else [],
            "environment": ["PATH"],
        }

    def log(self, lines: int) -> str:
        """Some lines that it might have written."""
        return "".join(f"{self.name} handled request {number + 1}\n" for number in range(min(lines, 20)))


@dataclass
class SimulatedHost:
    """One machine. Its clock begins at 0 and goes on by `advance`."""

    name: str
    chance: random.Random
    containers: dict[str, Container] = field(default_factory=dict)
    seconds: float = 0.0
    silent_until: float = 0.0
    docker_down_until: float = 0.0
    disk_due: float = 0.0
    machine: Machine = field(default_factory=Machine)

    @property
    def is_silent(self) -> bool:
        return self.seconds < self.silent_until

    @property
    def is_docker_down(self) -> bool:
        return self.seconds < self.docker_down_until

    def advance(self, seconds: float) -> None:
        """Let time pass, and what happens in it happen."""
        self.seconds += seconds
        if not self.is_silent and self._happens(SILENT_EVERY, seconds):
            self.silent_until = self.seconds + self.chance.uniform(*SILENT_FOR)
        if not self.is_docker_down and self._happens(DOCKER_DOWN_EVERY, seconds):
            self.docker_down_until = self.seconds + self.chance.uniform(*DOCKER_DOWN_FOR)
        for container in self.containers.values():
            self._advance_container(container, seconds)
        running = [each for each in self.containers.values() if each.state in ("running", "paused")]
        self.machine.advance(seconds, [(each.id, each.started_at) for each in running])

    def usage(self) -> dict[str, Any]:
        """As the heartbeat has it, the disk every few minutes."""
        document = self.machine.document()
        if self.seconds >= self.disk_due:
            self.disk_due = self.seconds + DISK_EVERY
            document["disk"] = self.machine.disk(
                sorted({each.stack for each in self.containers.values() if each.stack})
            )
        return document

    def inventory(self) -> tuple[str, list[dict[str, Any]]]:
        """(digest, containers in the order of their ids)."""
        documents = [self.containers[key].document() for key in sorted(self.containers)]
        text = json.dumps(documents, sort_keys=True, separators=(",", ":"))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}", documents

    def deploy(self, stack: str, operation: str, compose_file: str) -> list[str]:
        """Carry out a deploy; the lines that Compose would write."""
        members = [each for each in self.containers.values() if each.stack == stack]
        if operation in ("validate", "preview"):
            return []
        if operation == "up" and not members:
            members = [self.add(stack, *each) for each in services_of(stack, compose_file)]
            return [f" Container {each.name}  Created" for each in members] + [
                f" Container {each.name}  Started" for each in members
            ]
        for each in members:
            if operation == "down":
                del self.containers[each.id]
            elif operation == "stop":
                each.end(143)
                each.trouble_ends = None
            elif each.restart_policy != "no":
                each.start(moment())
        word = {"down": "Removed", "stop": "Stopped"}.get(operation, "Started")
        return [f" Container {each.name}  {word}" for each in members]

    def add(self, stack: str, service: str, image: str, has_health_check: bool) -> Container:
        """A new container that runs."""
        now = moment()
        container = Container(
            id=f"{self.chance.getrandbits(256):064x}",
            name=f"{stack}-{service}-1" if stack else service,
            image=image,
            stack=stack,
            service=service if stack else "",
            has_health_check=has_health_check,
            created_at=now,
            started_at=now,
        )
        container.start(now)
        self.containers[container.id] = container
        return container

    def _advance_container(self, container: Container, seconds: float) -> None:
        if container.trouble_ends is not None:
            if self.seconds >= container.trouble_ends:
                if container.state != "running":
                    container.restart_count += container.exit_code != 143
                container.start(moment())
            elif container.state == "exited" and container.exit_code not in (0, 143):
                container.state = "restarting"
        elif container.state != "running":
            return
        elif self._happens(CRASH_EVERY, seconds):
            is_oom_killed = self.chance.random() < 0.2
            container.end(
                137 if is_oom_killed else self.chance.choice((1, 2, 139)), is_oom_killed=is_oom_killed
            )
            container.trouble_ends = self.seconds + self.chance.uniform(*CRASHED_FOR)
        elif container.has_health_check and self._happens(SICK_EVERY, seconds):
            container.health = "unhealthy"
            container.trouble_ends = self.seconds + self.chance.uniform(*SICK_FOR)
        elif self._happens(STOP_EVERY, seconds):
            container.end(143)
            container.trouble_ends = self.seconds + self.chance.uniform(*STOPPED_FOR)

    def _happens(self, mean: float, seconds: float) -> bool:
        return self.chance.random() < seconds / mean


def make_hosts(*, hosts: int, containers: int, seed: int) -> list[SimulatedHost]:
    """Hosts with so many containers each, in stacks as far as they go."""
    return [_make_host(index, containers, seed) for index in range(hosts)]


def _make_host(index: int, containers: int, seed: int) -> SimulatedHost:
    chance = random.Random(f"{seed}/{index}")  # noqa: S311 - reproducible, not secret
    host = SimulatedHost(f"{ROLES[index % len(ROLES)]}-{index // len(ROLES) + 1:02d}", chance)
    has_job = containers >= 10
    for stack, member in _members(chance, containers - has_job):
        host.add(stack, *member)
    if has_job:
        # A one-shot job that is done.
        first = next(iter(host.containers.values()))
        job = host.add(first.stack, "migrate", first.image, False)
        job.restart_policy = "no"
        job.end(0)
    return host


def _members(chance: random.Random, count: int) -> Iterator[tuple[str, tuple[str, str, bool]]]:
    """`count` members of stacks in an order of their own for each host; a name used up gets a number."""
    number = 0
    while True:
        names = list(STACKS)
        chance.shuffle(names)
        for name in names:
            for member in STACKS[name]:
                if count == 0:
                    return
                yield (name if number == 0 else f"{name}-{number + 1}"), member
                count -= 1
        number += 1


def services_of(stack: str, compose_file: str) -> Iterable[tuple[str, str, bool]]:
    """The services of a Compose file, as far as a glance at its text tells; else the known stack's, else one."""
    block = _SERVICES.search(compose_file)
    names = _SERVICE.findall(block[1]) if block else []
    if names:
        return [(name, f"{name}:latest", False) for name in names]
    return STACKS.get(stack, (("app", f"{stack}:latest", False),))


def moment() -> str:
    """Now, as Docker and the agent write it."""
    return utc_text(datetime.datetime.now(datetime.UTC))
