"""The heartbeat: a pure function from what Docker says and what the agent knows to the protocol's document.

The golden documents in tests/golden/ are its output; the server's tests read the same files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from dockmesh.agent import PROTOCOL, VERSION, timestamps
from dockmesh.agent.text import ERROR_BYTES, IMAGE_BYTES, clean, cut

# The server refuses more (422), so the agent says so itself instead of being refused for ever.
MAX_CONTAINERS = 5000
MAX_PROGRESS_BYTES = 16 * 1024

STATES = frozenset({"created", "running", "paused", "restarting", "removing", "exited", "dead"})
# What Podman calls states that Docker has too.
_PODMAN_STATES = {
    "configured": "created",
    "initialized": "created",
    "stopping": "running",
    "stopped": "exited",
}
HEALTHS = frozenset({"starting", "healthy", "unhealthy"})
_INT32_MAX = 2**31 - 1

JSON = dict[str, Any]


@dataclass(frozen=True)
class System:
    os: str
    arch: str
    kernel: str
    cpus: int
    memory_bytes: int


@dataclass(frozen=True)
class Snapshot:
    """What is known of the Docker Engine at one moment. `containers` is None where it could not be read."""

    reachable: bool
    version: str
    error: str
    system: System
    containers: tuple[JSON, ...] | None
    digest: str = ""


@dataclass(frozen=True)
class Progress:
    """A command that runs: what it has written since the last accepted heartbeat."""

    command_id: str
    output: str
    elapsed_seconds: float


@dataclass(frozen=True)
class AgentInfo:
    capabilities: Sequence[str] = ()
    repositories: Sequence[str] = ()
    version: str = VERSION
    # Of the programs that it calls; empty where there is none, None where it has not looked.
    compose_version: str | None = None
    restic_version: str | None = None
    is_monitor_only: bool = False
    # What tells the agent's file from others of its version, and why the agent can't replace it.
    build: str = ""
    cannot_update: str = ""


@dataclass(frozen=True)
class HeartbeatState:
    boot_id: str
    sequence: int
    sent_at: datetime
    rtt_seconds: Sequence[float] = ()
    agent: AgentInfo = field(default_factory=AgentInfo)
    progress: Sequence[Progress] = ()
    # The digest that the server is known to hold: the same inventory then travels as its digest alone.
    known_digest: str = ""
    # What registries have of the images in use; None where there is nothing new to tell.
    images: Sequence[JSON] | None = None
    # What containers, machine and disk use (`usage.py`); None where nothing was measured since.
    usage: JSON | None = None


def heartbeat(snapshot: Snapshot, state: HeartbeatState) -> JSON:
    """The document for POST /api/v1/agents/heartbeat."""
    document: JSON = {
        "protocol": PROTOCOL,
        "boot_id": state.boot_id,
        "sequence": state.sequence,
        "sent_at": iso(state.sent_at),
        "agent": _agent(state.agent),
        "rtt_seconds": [round(seconds, 6) for seconds in state.rtt_seconds],
        "docker": {
            "reachable": snapshot.reachable,
            "version": clean(snapshot.version, limit=64),
            "error": clean(snapshot.error, limit=ERROR_BYTES),
        },
        "system": {
            "os": clean(snapshot.system.os, limit=64),
            "arch": clean(snapshot.system.arch, limit=64),
            "kernel": clean(snapshot.system.kernel, limit=128),
            "cpus": max(snapshot.system.cpus, 0),
            "memory_bytes": max(snapshot.system.memory_bytes, 0),
        },
        "inventory": _inventory(snapshot, known_digest=state.known_digest),
    }
    if state.progress:
        document["progress"] = [
            {
                "command_id": item.command_id,
                "output": _tail(item.output),
                "elapsed_seconds": round(max(item.elapsed_seconds, 0.0), 3),
            }
            for item in state.progress
        ]
    if state.images is not None:
        document["images"] = list(state.images)
    if state.usage is not None:
        document["usage"] = state.usage
    return document


def _agent(agent: AgentInfo) -> JSON:
    said: JSON = {
        "version": agent.version,
        "capabilities": list(agent.capabilities),
        "repositories": [clean(name) for name in agent.repositories],
    }
    if agent.is_monitor_only:
        said["is_monitor_only"] = True
    programs = {"compose_version": agent.compose_version, "restic_version": agent.restic_version}
    said |= {name: clean(value, limit=64) for name, value in programs.items() if value is not None}
    own = {"build": clean(agent.build, limit=64), "cannot_update": clean(agent.cannot_update, limit=300)}
    return said | {name: value for name, value in own.items() if value}


def container(inspected: Mapping[str, Any]) -> JSON:
    """One container of the inventory from the answer of Docker's GET /containers/{id}/json."""
    config = _mapping(inspected.get("Config"))
    host_config = inspected.get("HostConfig")
    state = _mapping(inspected.get("State"))
    labels = _mapping(config.get("Labels"))
    stack, service = _stack_and_service(labels)
    status = str(state.get("Status", "")).lower()
    status = _PODMAN_STATES.get(status, status)
    health = str(_mapping(state.get("Health")).get("Status", ""))
    return {
        "id": clean(inspected.get("Id"), limit=64),
        "name": clean(str(inspected.get("Name") or "").removeprefix("/"))
        or clean(inspected.get("Id"), limit=12),
        "image": clean(config.get("Image") or inspected.get("Image"), limit=IMAGE_BYTES),
        "image_digest": clean(inspected.get("Image"), limit=128),
        "state": status if status in STATES else "unknown",
        "health": health if health in HEALTHS else "",
        "exit_code": _exit_code(state.get("ExitCode")),
        "oom_killed": state.get("OOMKilled") is True,
        "restart_count": min(max(_integer(inspected.get("RestartCount")), 0), _INT32_MAX),
        "restart_policy": _restart_policy(host_config) if isinstance(host_config, Mapping) else "",
        "is_oneoff": str(labels.get("com.docker.compose.oneoff")).lower() == "true",
        "stop_signal": clean(config.get("StopSignal"), limit=64) or ("SIGTERM" if config else ""),
        "error": clean(state.get("Error"), limit=ERROR_BYTES),
        "stack": stack,
        "service": service,
        "created_at": docker_time(inspected.get("Created")),
        "started_at": docker_time(state.get("StartedAt")),
        "finished_at": docker_time(state.get("FinishedAt")),
    }


def _restart_policy(host_config: Mapping[str, Any]) -> str:
    # Docker's empty name is "no".
    return clean(_mapping(host_config.get("RestartPolicy")).get("Name"), limit=64) or "no"


def _stack_and_service(labels: Mapping[str, Any]) -> tuple[str, str]:
    """Of a Compose project, else of a Swarm stack, whose services have its name before their own."""
    project = clean(labels.get("com.docker.compose.project"))
    if project:
        return project, clean(labels.get("com.docker.compose.service"))
    namespace = clean(labels.get("com.docker.stack.namespace"))
    service = clean(labels.get("com.docker.swarm.service.name")) if namespace else ""
    return namespace, service.removeprefix(f"{namespace}_")


def ordered(containers: Iterable[JSON]) -> tuple[JSON, ...]:
    """The inventory's own order, so that the same containers always give the same digest."""
    return tuple(sorted(containers, key=lambda item: str(item["id"])))


def digest(containers: Sequence[JSON]) -> str:
    """SHA-256 of the inventory's canonical encoding: containers by id, keys by name, no spaces, UTF-8."""
    canonical = json.dumps(
        list(containers), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def docker_time(value: object) -> str | None:
    """Docker's time (nanoseconds, any offset) in UTC; None for its zero time and for what is no time."""
    if not isinstance(value, str):
        return None
    try:
        moment = timestamps.parse(value)
        if moment.year < 1971:
            return None
        return iso(moment)
    except (ValueError, OverflowError):
        return None


def iso(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def _inventory(snapshot: Snapshot, *, known_digest: str) -> JSON | None:
    if snapshot.containers is None:
        return None
    if known_digest and known_digest == snapshot.digest:
        return {"digest": snapshot.digest}
    return {"digest": snapshot.digest, "containers": list(snapshot.containers)}


def _exit_code(value: object) -> int:
    # Docker says -1 for a process that it could not start; what counts is that it isn't 0.
    code = _integer(value)
    return 255 if code < 0 else min(code, _INT32_MAX)


def _integer(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _tail(output: str) -> str:
    encoded = output.encode("utf-8", "replace")
    if len(encoded) <= MAX_PROGRESS_BYTES:
        return output
    return cut(encoded[-MAX_PROGRESS_BYTES:].decode("utf-8", "ignore"), limit=MAX_PROGRESS_BYTES)
