"""What the fleet's tests start from: a host as enrollment leaves it, heartbeats as agents send them."""

from __future__ import annotations

import itertools
from typing import Any

from dockmesh.core import clock
from dockmesh.fleet.models import HeartbeatState, Host
from tokens import secret

_numbers = itertools.count(1)


def make_host(name: str | None = None) -> tuple[Host, str]:
    """A host that has never sent a heartbeat, and its agent's token."""
    token = secret.generate(secret.Kind.AGENT)
    digest = secret.digest(token)
    host = Host.objects.create(
        name=name or f"host-{next(_numbers)}",
        agent_token_id=token.public_id,
        agent_digest=digest.value,
        agent_pepper=digest.pepper,
    )
    HeartbeatState.objects.create(host=host, last_seen_at=clock.now())
    return host, str(token)


def container(identity: str = "c1", **changes: Any) -> dict[str, Any]:
    return {
        "id": identity,
        "name": f"web-{identity}",
        "image": "nginx:1.27",
        "image_digest": "sha256:" + "ab" * 32,
        "state": "running",
        "health": "healthy",
        "exit_code": 0,
        "oom_killed": False,
        "restart_count": 0,
        "restart_policy": "unless-stopped",
        "is_oneoff": False,
        "stop_signal": "SIGTERM",
        "error": "",
        "stack": "shop",
        "service": "web",
        "created_at": "2026-11-22T10:59:58.500001Z",
        "started_at": "2026-11-22T11:00:01.123456Z",
        "finished_at": None,
        **changes,
    }


def heartbeat(sequence: int = 1, *, digest: str = "sha256:one", **changes: Any) -> dict[str, Any]:
    """A heartbeat with the digest alone; give `containers` for a whole inventory."""
    containers = changes.pop("containers", None)
    inventory: dict[str, Any] = {"digest": digest}
    if containers is not None:
        inventory["containers"] = containers
    return {
        "protocol": 1,
        "boot_id": "7d9f0a52-3c1e-4a57-9a0e-2b8f6c1d4e90",
        "sequence": sequence,
        "sent_at": "2026-11-22T12:00:00.000001Z",
        "agent": {
            "version": "0.1.0",
            "capabilities": ["deploy", "backup"],
            "repositories": ["default", "offsite"],
        },
        "rtt_seconds": [0.012],
        "docker": {"reachable": True, "version": "24.0.7", "error": ""},
        "system": {"os": "linux", "arch": "x86_64", "kernel": "6.1", "cpus": 2, "memory_bytes": 25769803776},
        "inventory": inventory,
        **changes,
    }
